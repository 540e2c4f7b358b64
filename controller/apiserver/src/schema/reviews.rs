//! Reviews: questions that are asked by creating them. Nothing of them is stored, so they are in no catalog of kinds; clients
//! find them in discovery and in OpenAPI all the same.

use std::sync::LazyLock;

use serde_json::Value;

use super::crd;
use super::definition::{Definition, Version};

/// Their documents, in the form of CRDs.
const DOCUMENTS: &str = include_str!("reviews.yaml");

/// All of them, each group's by their plural. The documents are part of the program, so one that does not compile is left out
/// only in a build whose tests were not run.
static ALL: LazyLock<Vec<Definition>> = LazyLock::new(|| {
    let documents: Vec<Value> = serde_saphyr::from_str(DOCUMENTS).unwrap_or_default();
    let compiled = documents.iter().filter_map(|document| crd::compile_builtin(document).ok());
    compiled.map(|definition| Definition { builtin: true, ..definition }).collect()
});

/// Every review with its version.
pub(super) fn all() -> impl Iterator<Item = (&'static Definition, &'static Version)> {
    ALL.iter().flat_map(|definition| definition.versions.iter().map(move |version| (definition, version)))
}

/// Those of one group and version.
pub(super) fn of(group: &str, version: &str) -> impl Iterator<Item = &'static Definition> {
    all().filter(move |(d, v)| d.group == group && v.name == version).map(|(definition, _)| definition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_review_that_is_answered_is_described() {
        let kinds: Vec<&str> = all().map(|(definition, _)| definition.kind.as_str()).collect();
        let answered = [
            "SelfSubjectReview",
            "TokenReview",
            "LocalSubjectAccessReview",
            "SelfSubjectAccessReview",
            "SelfSubjectRulesReview",
            "SubjectAccessReview",
        ];
        assert_eq!(kinds, answered);
    }
}
