//! Every pair of Ports, every question, in each family.

use traffic::{Conversation, Family};

use crate::endpoint::Endpoint;
use crate::question::{Question, questions};
use crate::rule::Rule;
use crate::verdict::Verdict;
use crate::world::World;

/// One pair and one question, in one family.
#[derive(Clone, Debug)]
pub struct Cell<'a> {
    /// Who begins.
    pub from: &'a Endpoint,
    /// Whom it speaks to.
    pub to: &'a Endpoint,
    /// What about.
    pub question: &'a Question,
    /// The question's example in one family.
    pub what: Conversation,
    /// Whether it may.
    pub verdict: Verdict,
}

impl Cell<'_> {
    /// Whether it is asked though the two have no address of its family: of ICMP each family has its own.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        !self.from.shares_family_with(self.to, self.what.family())
    }
}

/// A line's worth of a pair: a question, or in one family what is otherwise in the other.
#[derive(Clone, Debug)]
pub struct Entry<'c, 'a> {
    /// As people write it: `tcp/80`, and `tcp4/80` or `tcp6/80` where the two families differ.
    pub label: String,
    /// What is told of it.
    pub cell: &'c Cell<'a>,
}

/// One pair's cells, in their order, with what ends alike in both families told once. `alike` says what counts as such.
pub fn entries<'c, 'a>(pair: &'c [Cell<'a>], alike: impl Fn(&Cell<'a>, &Cell<'a>) -> bool) -> Vec<Entry<'c, 'a>> {
    let same = |one: &Cell<'_>, next: &Cell<'_>| std::ptr::eq(one.question, next.question);
    let mut all = Vec::new();
    for of_question in pair.chunk_by(same) {
        let label = &of_question[0].question.label;
        match of_question {
            [four, six] if !alike(four, six) => {
                all.extend([(four, "4"), (six, "6")].map(|(cell, mark)| Entry { label: marked(label, mark), cell }));
            }
            _ => all.extend(of_question.first().map(|cell| Entry { label: label.clone(), cell })),
        }
    }
    all
}

/// The family after the protocol's name.
fn marked(label: &str, mark: &str) -> String {
    match label.split_once('/') {
        Some((protocol, rest)) => format!("{protocol}{mark}/{rest}"),
        None => format!("{label}{mark}"),
    }
}

impl World {
    /// One question for each sort of conversation that the rules of these Ports' groups tell apart.
    #[must_use]
    pub fn questions(&self, of: &[&Endpoint]) -> Vec<Question> {
        let each = of.iter().flat_map(|one| one.groups.iter().map(move |group| (&one.namespace, group)));
        let rules = each.filter_map(|(namespace, group)| Some(self.groups(namespace)?.rules(group)));
        let mut all = questions(rules.flatten().collect::<Vec<&Rule>>());
        if of.iter().any(|one| one.six.is_some()) && !all.iter().any(|one| one.example == Conversation::PING6) {
            all.push(Question::from(Conversation::PING6));
        }
        all
    }

    /// What is decided of every ordered pair of two Ports, in each family that both have.
    pub fn matrix<'a>(
        &'a self,
        from: &'a [&'a Endpoint],
        to: &'a [&'a Endpoint],
        questions: &'a [Question],
    ) -> impl Iterator<Item = Cell<'a>> {
        let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to)));
        let different = pairs.filter(|(from, to)| (&from.namespace, &from.name) != (&to.namespace, &to.name));
        different.flat_map(move |(from, to)| {
            questions.iter().flat_map(move |question| {
                let each = examples(from, to, question).into_iter();
                each.map(move |what| Cell { from, to, question, what, verdict: self.verdict(from, to, what) })
            })
        })
    }
}

/// The question's example in each family that both have; as it is where they have none of its families.
fn examples(from: &Endpoint, to: &Endpoint, question: &Question) -> Vec<Conversation> {
    let families = Family::ALL.into_iter().filter(|family| from.shares_family_with(to, *family));
    let all: Vec<Conversation> = families.filter_map(|family| question.example.over(family)).collect();
    if all.is_empty() { vec![question.example] } else { all }
}
