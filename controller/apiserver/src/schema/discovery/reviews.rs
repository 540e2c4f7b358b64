//! Reviews in discovery: questions that are asked by creating them, of which nothing is stored, so they have no definition.

use serde_json::{Value, json};

/// A kind that can only be created.
struct Review {
    group: &'static str,
    plural: &'static str,
    kind: &'static str,
    namespaced: bool,
}

const VERSION: &str = "v1";
const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

/// Each group's by their plural.
const ALL: [Review; 6] = [
    Review { group: AUTHENTICATION, plural: "selfsubjectreviews", kind: "SelfSubjectReview", namespaced: false },
    Review { group: AUTHENTICATION, plural: "tokenreviews", kind: "TokenReview", namespaced: false },
    Review {
        group: AUTHORIZATION,
        plural: "localsubjectaccessreviews",
        kind: "LocalSubjectAccessReview",
        namespaced: true,
    },
    Review {
        group: AUTHORIZATION,
        plural: "selfsubjectaccessreviews",
        kind: "SelfSubjectAccessReview",
        namespaced: false,
    },
    Review {
        group: AUTHORIZATION,
        plural: "selfsubjectrulesreviews",
        kind: "SelfSubjectRulesReview",
        namespaced: false,
    },
    Review { group: AUTHORIZATION, plural: "subjectaccessreviews", kind: "SubjectAccessReview", namespaced: false },
];

/// The groups that have reviews, and in which version.
pub(super) const GROUPS: [(&str, &str); 2] = [(AUTHENTICATION, VERSION), (AUTHORIZATION, VERSION)];

fn of(group: &str, version: &str) -> impl Iterator<Item = &'static Review> {
    let wanted = (version == VERSION).then(|| group.to_owned());
    ALL.iter().filter(move |review| wanted.as_deref() == Some(review.group))
}

fn singular(review: &Review) -> String {
    review.kind.to_lowercase()
}

/// As plain discovery tells them.
pub(super) fn plain(group: &str, version: &str) -> impl Iterator<Item = Value> {
    of(group, version).map(|review| {
        json!({
            "name": review.plural,
            "singularName": singular(review),
            "namespaced": review.namespaced,
            "kind": review.kind,
            "verbs": ["create"],
        })
    })
}

/// As aggregated discovery tells them.
pub(super) fn aggregated(group: &str, version: &str) -> impl Iterator<Item = Value> {
    of(group, version).map(|review| {
        json!({
            "resource": review.plural,
            "responseKind": {"group": review.group, "version": VERSION, "kind": review.kind},
            "scope": if review.namespaced { "Namespaced" } else { "Cluster" },
            "singularResource": singular(review),
            "verbs": ["create"],
        })
    })
}
