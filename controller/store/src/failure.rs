//! What a failed request to etcd says.
//!
//! What a caller may do after a failure depends on one thing only: can the request have taken effect? [`Verdict`]
//! answers that, and everything above thinks in verdicts.

use std::time::Duration;

use crate::Error;

/// What a failure says about the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It never left, or was turned away unread: try again.
    Unsent,
    /// It may have taken effect.
    Unknown,
    /// etcd read it and said no.
    Refused,
    /// etcd's quota is used up.
    NoSpace,
    /// It asked for a past that has been compacted.
    Compacted,
}

impl Verdict {
    /// Whether another member of etcd could say something else.
    pub(crate) fn is_of_the_way(self) -> bool {
        matches!(self, Verdict::Unsent | Verdict::Unknown)
    }
}

/// A failed request.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) verdict: Verdict,
    pub(crate) source: Option<Box<etcd_client::Error>>,
}

impl From<etcd_client::Error> for Failure {
    fn from(error: etcd_client::Error) -> Self {
        Self { verdict: judge(&error), source: Some(Box::new(error)) }
    }
}

impl Failure {
    /// One that nobody has said anything about.
    pub(crate) fn silent(verdict: Verdict) -> Failure {
        Failure { verdict, source: None }
    }

    /// The failure as an error of `operation`, which changed nothing.
    pub(crate) fn of(self, operation: &'static str, waited: Duration) -> Error {
        match (self.verdict, self.source) {
            (Verdict::NoSpace, _) => Error::NoSpace,
            (Verdict::Refused | Verdict::Compacted, Some(source)) => Error::Etcd { operation, source },
            (_, source) => Error::Unavailable { operation, waited, source },
        }
    }
}

/// gRPC codes by number: the type is not re-exported, and these numbers are the protocol.
fn judge(error: &etcd_client::Error) -> Verdict {
    let etcd_client::Error::GRpcStatus(status) = error else {
        return if never_left(error) { Verdict::Unsent } else { Verdict::Unknown };
    };
    match status.code() as i32 {
        8 if status.message().contains("space exceeded") => Verdict::NoSpace,
        8 if status.message().contains("too many requests") => Verdict::Unsent,
        11 if status.message().contains("compacted") => Verdict::Compacted,
        // A member says so at its door and of nothing else: requests that ask for a leader are turned away unread.
        14 if status.message() == "etcdserver: no leader" => Verdict::Unsent,
        // invalid argument, not found, permission denied, exhausted, precondition, range, unimplemented, unauthenticated
        3 | 5 | 7 | 8 | 9 | 11 | 12 | 16 => Verdict::Refused,
        _ if never_left(status) => Verdict::Unsent,
        _ => Verdict::Unknown,
    }
}

/// Whether the chain of causes shows that no connection came about.
fn never_left(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}
