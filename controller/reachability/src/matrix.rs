//! Every pair of Ports, every question.

use crate::endpoint::Endpoint;
use crate::question::{Question, questions};
use crate::rule::Rule;
use crate::verdict::Verdict;
use crate::world::World;

/// One pair and one question.
#[derive(Clone, Debug)]
pub struct Cell<'a> {
    /// Who begins.
    pub from: &'a Endpoint,
    /// Whom it speaks to.
    pub to: &'a Endpoint,
    /// What about.
    pub question: &'a Question,
    /// Whether it may.
    pub verdict: Verdict,
}

impl World {
    /// One question for each sort of conversation that the rules of these Ports' groups tell apart.
    #[must_use]
    pub fn questions(&self, of: &[&Endpoint]) -> Vec<Question> {
        let each = of.iter().flat_map(|one| one.groups.iter().map(move |group| (&one.namespace, group)));
        let rules = each.filter_map(|(namespace, group)| Some(self.groups(namespace)?.rules(group)));
        questions(rules.flatten().collect::<Vec<&Rule>>())
    }

    /// What is decided of every ordered pair of two Ports.
    pub fn matrix<'a>(
        &'a self,
        from: &'a [&'a Endpoint],
        to: &'a [&'a Endpoint],
        questions: &'a [Question],
    ) -> impl Iterator<Item = Cell<'a>> {
        let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to)));
        let different = pairs.filter(|(from, to)| (&from.namespace, &from.name) != (&to.namespace, &to.name));
        different.flat_map(move |(from, to)| {
            questions.iter().map(move |question| {
                let verdict = self.verdict(from, to, question.example);
                Cell { from, to, question, verdict }
            })
        })
    }
}
