//! The engine against a world that can be stopped after every effect.

mod crash;
mod ends;
mod plan;
mod reachability;
mod world;

use crds::TestRun;
use serde_json::{Value, json};

/// A run with these steps, as the API would hand it out.
fn run_of(steps: Value, finally: Value, timeout: u32) -> TestRun {
    let value = json!({
        "apiVersion": "photoncloud.dev/v1alpha1", "kind": "TestRun",
        "metadata": {"name": "t", "namespace": "default", "generation": 1, "resourceVersion": "1",
            "uid": "0b5e1c0e-91f4-4ad7-9a3f-5a9f0c3d2a11"},
        "spec": {"cluster": "c", "timeoutSeconds": timeout, "steps": steps, "finally": finally},
    });
    serde_json::from_value(value).unwrap()
}
