//! Which of the record sets of one name are served: pure, so that whoever tells the tenant and whoever serves it agree.

use crate::value::{self, InvalidValue, Kind};

/// A record set that wants a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// What its owner calls it.
    pub id: &'a str,
    /// Whoever is older keeps what two want: compared first by this, then by `id`.
    pub age: i64,
    /// Type.
    pub kind: Kind,
    /// Values.
    pub values: &'a [String],
}

/// Why a record set is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A value is none.
    #[error("spec.values[{index}]: {error}")]
    Invalid {
        /// Which.
        index: usize,
        /// Why.
        error: InvalidValue,
    },
    /// Another value says the same.
    #[error("spec.values[{index}] says the same as another value")]
    Twice {
        /// Which.
        index: usize,
    },
    /// An older set has this name and type.
    #[error("DNSRecordSet {other}, which is older, has this name and type")]
    Taken {
        /// The other.
        other: String,
    },
    /// A CNAME stands alone at its name.
    #[error("a CNAME is the only record of its name, and DNSRecordSet {other}, which is older, has this name, too")]
    NotAlone {
        /// The other.
        other: String,
    },
}

impl Refusal {
    /// A stable label for condition reasons.
    pub fn category(&self) -> &'static str {
        match self {
            Refusal::Invalid { .. } | Refusal::Twice { .. } => "InvalidValue",
            Refusal::Taken { .. } => "NameTaken",
            Refusal::NotAlone { .. } => "CnameNotAlone",
        }
    }
}

/// Judges all record sets of one name; verdicts come in the order of `candidates`. What is refused takes nothing from others.
pub fn judge(candidates: &[Candidate<'_>]) -> Vec<Result<(), Refusal>> {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by_key(|&at| (candidates[at].age, candidates[at].id));
    let mut verdicts = vec![Ok(()); candidates.len()];
    let mut served: Vec<&Candidate<'_>> = Vec::new();
    for at in order {
        let candidate = &candidates[at];
        verdicts[at] = check_values(candidate).and_then(|()| check_beside(candidate, &served));
        if verdicts[at].is_ok() {
            served.push(candidate);
        }
    }
    verdicts
}

fn check_values(candidate: &Candidate<'_>) -> Result<(), Refusal> {
    let mut seen = std::collections::HashSet::new();
    for (index, text) in candidate.values.iter().enumerate() {
        let data = value::parse(candidate.kind, text).map_err(|error| Refusal::Invalid { index, error })?;
        if !seen.insert(data) {
            return Err(Refusal::Twice { index });
        }
    }
    Ok(())
}

fn check_beside(candidate: &Candidate<'_>, served: &[&Candidate<'_>]) -> Result<(), Refusal> {
    for other in served {
        let name = || other.id.to_owned();
        if other.kind == candidate.kind {
            return Err(Refusal::Taken { other: name() });
        }
        if other.kind == Kind::Cname || candidate.kind == Kind::Cname {
            return Err(Refusal::NotAlone { other: name() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(sets: &[(&str, i64, Kind, &str)]) -> Vec<&'static str> {
        let values: Vec<Vec<String>> = sets.iter().map(|set| set.3.split('|').map(str::to_owned).collect()).collect();
        let candidates: Vec<Candidate<'_>> = sets
            .iter()
            .zip(&values)
            .map(|(set, values)| Candidate { id: set.0, age: set.1, kind: set.2, values })
            .collect();
        judge(&candidates).iter().map(|verdict| verdict.as_ref().err().map_or("", Refusal::category)).collect()
    }

    #[test]
    fn of_two_the_older_is_served_and_a_cname_stands_alone() {
        let sets = [
            ("young", 2, Kind::A, "10.0.0.1"),
            ("old", 1, Kind::A, "10.0.0.2"),
            ("text", 3, Kind::Txt, "x"),
            ("alias", 4, Kind::Cname, "a.b"),
        ];
        assert_eq!(verdicts(&sets), ["NameTaken", "", "", "CnameNotAlone"]);
        assert_eq!(verdicts(&[("a", 1, Kind::Cname, "a.b"), ("b", 1, Kind::A, "10.0.0.1")]), ["", "CnameNotAlone"]);
    }

    #[test]
    fn what_is_refused_takes_nothing() {
        let sets = [("bad", 1, Kind::A, "x"), ("good", 2, Kind::A, "10.0.0.2")];
        assert_eq!(verdicts(&sets), ["InvalidValue", ""]);
        assert_eq!(verdicts(&[("twice", 1, Kind::Aaaa, "fd00::1|fd00:0::1")]), ["InvalidValue"]);
    }
}
