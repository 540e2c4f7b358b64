//! Every manifest in the repository is what the kinds understand: no document of an unknown kind, no field that would be
//! dropped, no reference to an object that the file does not bring.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use crds::testrun::{ParallelStep, Step};
use crds::{
    Cluster, DNSRecordSet, DNSZone, ExternalNetwork, Fault, Image, LoadBalancer, Node, Port, Router, SecurityGroup,
    ServiceIP, TenantNetwork, TestRun, VirtualMachine, Volume,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn manifests() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests");
    let mut found = Vec::new();
    for directory in [root.clone(), root.join("examples")] {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(found.len() >= 9, "{found:?}");
    found
}

fn documents(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Paths in `given` that are not in `kept`, where the type has put everything it knows.
fn dropped(given: &Value, kept: &Value, path: &str, out: &mut Vec<String>) {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => {
            for (key, value) in given {
                let path = format!("{path}.{key}");
                match kept.get(key) {
                    Some(kept) => dropped(value, kept, &path, out),
                    None => out.push(path),
                }
            }
        }
        (Value::Array(given), Value::Array(kept)) if given.len() == kept.len() => {
            for (at, (given, kept)) in given.iter().zip(kept).enumerate() {
                dropped(given, kept, &format!("{path}[{at}]"), out);
            }
        }
        (Value::Number(given), Value::Number(kept)) if given.as_f64() == kept.as_f64() => {}
        (given, kept) if given == kept => {}
        _ => out.push(path.to_owned()),
    }
}

fn strictly<K: DeserializeOwned + Serialize>(document: &Value) -> Result<K, String> {
    let parsed: K = serde_json::from_value(document.clone()).map_err(|error| error.to_string())?;
    let kept = serde_json::to_value(&parsed).map_err(|error| error.to_string())?;
    let mut lost = Vec::new();
    dropped(document, &kept, "", &mut lost);
    if lost.is_empty() {
        return Ok(parsed);
    }
    Err(format!("unknown or changed: {}", lost.join(", ")))
}

fn check(document: &Value) -> Result<(), String> {
    if document["apiVersion"] != "photoncloud.dev/v1alpha1" {
        return Err(format!("apiVersion {}", document["apiVersion"]));
    }
    match document["kind"].as_str().unwrap_or_default() {
        "Cluster" => strictly::<Cluster>(document).map(drop),
        "DNSRecordSet" => strictly::<DNSRecordSet>(document).map(drop),
        "DNSZone" => strictly::<DNSZone>(document).map(drop),
        "ExternalNetwork" => strictly::<ExternalNetwork>(document).map(drop),
        "Fault" => strictly::<Fault>(document).map(drop),
        "Image" => strictly::<Image>(document).map(drop),
        "LoadBalancer" => strictly::<LoadBalancer>(document).map(drop),
        "Node" => strictly::<Node>(document).map(drop),
        "Router" => strictly::<Router>(document).map(drop),
        "SecurityGroup" => strictly::<SecurityGroup>(document).map(drop),
        "ServiceIP" => strictly::<ServiceIP>(document).map(drop),
        "Port" => strictly::<Port>(document).map(drop),
        "TenantNetwork" => strictly::<TenantNetwork>(document).map(drop),
        "TestRun" => strictly::<TestRun>(document).map(drop),
        "VirtualMachine" => strictly::<VirtualMachine>(document).map(drop),
        "Volume" => strictly::<Volume>(document).map(drop),
        kind => Err(format!("unknown kind {kind:?}")),
    }
}

#[test]
fn every_document_is_understood_to_the_last_field() {
    for path in manifests() {
        for document in documents(&path) {
            if let Err(why) = check(&document) {
                panic!("{}: {} {}: {why}", path.display(), document["kind"], document["metadata"]["name"]);
            }
        }
    }
}

#[test]
fn a_misspelt_field_is_noticed() {
    let document = serde_json::json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "Volume",
        "metadata": {"name": "v"}, "spec": {"size": "1Gi", "filesytem": "ext4"}});
    assert_eq!(check(&document), Err("unknown or changed: .spec.filesytem".to_owned()));
}

/// What a file's objects are called, with the Nodes, machines and Volumes that a Cluster brings.
fn names(documents: &[Value]) -> BTreeSet<(String, String)> {
    let mut names = BTreeSet::new();
    let mut add = |kind: &str, name: &str| names.insert((kind.to_owned(), name.to_owned()));
    for document in documents {
        let (kind, name) = (document["kind"].as_str().unwrap(), document["metadata"]["name"].as_str().unwrap());
        add(kind, name);
        for node in document["spec"]["nodes"].as_array().into_iter().flatten() {
            let name = node["name"].as_str().unwrap();
            for kind in ["Node", "VirtualMachine", "Port"] {
                add(kind, name);
            }
        }
    }
    names
}

#[test]
fn images_networks_and_ports_that_are_named_are_in_the_file() {
    for path in manifests() {
        let documents = documents(&path);
        let names = names(&documents);
        let has = |kind: &str, name: &Value| {
            let Some(name) = name.as_str() else { return };
            let key = (kind.to_owned(), name.to_owned());
            assert!(names.contains(&key), "{}: {kind}/{name} is missing", path.display());
        };
        for document in &documents {
            let spec = &document["spec"];
            match document["kind"].as_str().unwrap() {
                "Image" => has("Image", &spec["layer"]["image"]),
                "VirtualMachine" => {
                    has("Image", &spec["image"]);
                    spec["interfaces"].as_array().into_iter().flatten().for_each(|i| has("Port", &i["port"]));
                    spec["volumes"].as_array().into_iter().flatten().for_each(|v| has("Volume", &v["volume"]));
                }
                "Port" => has("TenantNetwork", &spec["network"]),
                "DNSRecordSet" => has("DNSZone", &spec["zone"]),
                "Cluster" => {
                    has("TenantNetwork", &spec["network"]);
                    spec["nodes"].as_array().unwrap().iter().for_each(|node| has("Image", &node["image"]));
                }
                _ => {}
            }
        }
    }
}

#[test]
fn steps_name_objects_that_are_there_and_metrics_once() {
    for path in manifests() {
        let documents = documents(&path);
        let names = names(&documents);
        for document in documents.iter().filter(|document| document["kind"] == "TestRun") {
            let run: TestRun = strictly(document).unwrap();
            let mut metrics = BTreeSet::new();
            let mut earlier = BTreeSet::new();
            for step in run.spec.steps.iter().chain(&run.spec.finally) {
                let value = serde_json::to_value(step).unwrap();
                earlier.insert(step.name.clone());
                visit(&value, &mut |object| {
                    if let (Some(kind), Some(name)) = (object["kind"].as_str(), object["name"].as_str()) {
                        let key = (kind.to_owned(), name.to_owned());
                        assert!(names.contains(&key), "{}: step {} names {key:?}", path.display(), step.name);
                    }
                    if let Some(after) = object["after"].as_str() {
                        assert!(earlier.contains(after), "{}: step {} comes after {after}", path.display(), step.name);
                    }
                });
                for metric in numbers(step) {
                    assert!(metrics.insert(metric.clone()), "{}: metric {metric} twice", path.display());
                }
            }
        }
    }
}

fn visit(value: &Value, see: &mut impl FnMut(&Value)) {
    match value {
        Value::Object(map) => {
            see(value);
            map.values().for_each(|value| visit(value, see));
        }
        Value::Array(list) => list.iter().for_each(|value| visit(value, see)),
        _ => {}
    }
}

/// The names of the metrics a step records.
fn numbers(step: &Step) -> Vec<String> {
    let mut found: Vec<String> = step.duration_metric.iter().cloned().collect();
    found.extend(step.exec.iter().flat_map(|exec| &exec.metrics).map(|metric| metric.name.clone()));
    found.extend(step.assert.iter().filter_map(|assert| assert.metric.clone()));
    found.extend(step.reachability.iter().filter_map(|wanted| wanted.metric_prefix.clone()));
    let children: Vec<&ParallelStep> = step.parallel.iter().flat_map(|parallel| &parallel.steps).collect();
    for child in children {
        found.extend(child.duration_metric.iter().cloned());
        found.extend(child.exec.iter().flat_map(|exec| &exec.metrics).map(|metric| metric.name.clone()));
        found.extend(child.assert.iter().filter_map(|assert| assert.metric.clone()));
    }
    found
}
