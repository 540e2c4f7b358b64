//! What keeps a namespace from going, in its status: who waits for it sees there which finalizers to look after.
//!
//! Pure: from what is left to the two conditions that `kubectl describe namespace` shows, in the official server's words.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::object::{View, finalizers};

/// Objects that are still there.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    /// Objects by their resource, as in `widgets.example.dev`.
    resources: BTreeMap<String, usize>,
    /// Objects by the finalizer they wait for.
    finalizers: BTreeMap<String, usize>,
}

impl Remains {
    /// Counts one more.
    pub(crate) fn note(&mut self, resource: String, object: &View) {
        *self.resources.entry(resource).or_default() += 1;
        for finalizer in finalizers(object.value()) {
            *self.finalizers.entry(finalizer.to_owned()).or_default() += 1;
        }
    }

    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }

    /// How many objects there are.
    pub(crate) fn len(&self) -> usize {
        self.resources.values().sum()
    }

    /// The `status` of a namespace that waits for these; what has not changed keeps its time.
    pub(crate) fn status(&self, before: &Value, now: &str) -> Value {
        let mut status = before.clone();
        let mut conditions: Vec<Value> = before["conditions"].as_array().cloned().unwrap_or_default();
        for (kind, is, reason, message) in [self.content(), self.waiting()] {
            let found = conditions.iter().position(|condition| condition["type"] == kind);
            let same = |old: &Value| old["status"] == is && old["message"] == *message;
            if found.is_some_and(|at| same(&conditions[at])) {
                continue;
            }
            let condition = json!({
                "type": kind, "status": is, "reason": reason, "message": message, "lastTransitionTime": now,
            });
            match found {
                Some(at) => conditions[at] = condition,
                None => conditions.push(condition),
            }
        }
        status["conditions"] = conditions.into();
        status
    }

    fn content(&self) -> (&'static str, &'static str, &'static str, String) {
        let each = |(resource, count): (&String, &usize)| format!("{resource} has {count} resource instances");
        let list: Vec<String> = self.resources.iter().map(each).collect();
        let message = format!("Some resources are remaining: {}", list.join(", "));
        ("NamespaceContentRemaining", "True", "SomeResourcesRemain", message)
    }

    fn waiting(&self) -> (&'static str, &'static str, &'static str, String) {
        const KIND: &str = "NamespaceFinalizersRemaining";
        if self.finalizers.is_empty() {
            return (KIND, "False", "ContentHasNoFinalizers", "All content-preserving finalizers finished".to_owned());
        }
        let each = |(finalizer, count): (&String, &usize)| format!("{finalizer} in {count} resource instances");
        let list: Vec<String> = self.finalizers.iter().map(each).collect();
        let message = format!("Some content in the namespace has finalizers remaining: {}", list.join(", "));
        (KIND, "True", "SomeFinalizersRemain", message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remains(resources: &[(&str, usize)], finalizers: &[(&str, usize)]) -> Remains {
        let counted = |list: &[(&str, usize)]| list.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Remains { resources: counted(resources), finalizers: counted(finalizers) }
    }

    #[test]
    fn what_has_not_changed_keeps_its_time() {
        let held = remains(&[("configmaps", 1), ("widgets.example.dev", 2)], &[("example.dev/wait", 3)]);
        assert_eq!(held.len(), 3);
        let first = held.status(&json!({"phase": "Terminating"}), "early");
        assert_eq!(first["phase"], "Terminating");
        let [content, waiting] = [&first["conditions"][0], &first["conditions"][1]];
        assert_eq!(
            content["message"],
            "Some resources are remaining: configmaps has 1 resource instances, widgets.example.dev has 2 resource \
             instances"
        );
        assert_eq!(
            waiting["message"],
            "Some content in the namespace has finalizers remaining: example.dev/wait in 3 resource instances"
        );
        assert_eq!(held.status(&first, "late"), first);

        let fewer = remains(&[("widgets.example.dev", 1)], &[]).status(&first, "late");
        assert_eq!(fewer["conditions"].as_array().map(Vec::len), Some(2));
        assert_eq!(fewer["conditions"][1]["status"], "False");
        assert_eq!(fewer["conditions"][1]["lastTransitionTime"], "late");
    }
}
