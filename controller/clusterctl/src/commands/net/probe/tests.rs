//! A probe of guests that are a function: which tries they answer, and from which round on.

use super::*;
use crds::exec::ExecResult;
use crds::{Port, TenantNetwork, VirtualMachine};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use reachability::{Conversation, Endpoint, Objects, Question};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Two machines on one network, open to each other.
fn world() -> World {
    let ready =
        json!([{"type": "Ready", "status": "True", "reason": "Booted", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    let object = |kind: &str, name: &str, spec: Value| {
        json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": kind, "spec": spec,
            "metadata": {"name": name, "namespace": "t"}, "status": {"conditions": ready}})
    };
    let network: TenantNetwork =
        serde_json::from_value(object("TenantNetwork", "net", json!({"subnet": "10.0.0.0/24"}))).unwrap();
    let port = |name: &str, ip: &str| -> Port {
        serde_json::from_value(object("Port", name, json!({"network": "net", "ip": ip, "host": "host01"}))).unwrap()
    };
    let machine = |name: &str| -> VirtualMachine {
        serde_json::from_value(object("VirtualMachine", name, json!({"image": "i", "interfaces": [{"port": name}]})))
            .unwrap()
    };
    World::of(Objects {
        networks: vec![network],
        ports: vec![port("a", "10.0.0.2"), port("b", "10.0.0.3")],
        machines: vec![machine("a"), machine("b")],
        ..Objects::default()
    })
}

/// A server whose guests end a try with this code: by the machine, and how many commands there were before.
fn server(code: fn(&str, usize) -> Result<u8, StatusCode>) -> (Client, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let guests = tower::service_fn(move |request: Request<Body>| {
        let before = count.fetch_add(1, Ordering::SeqCst);
        async move {
            let path = request.uri().path().to_owned();
            let machine = path.split('/').nth_back(1).unwrap().to_owned();
            assert!(path.contains("/namespaces/t/virtualmachines/") && path.ends_with("/exec"), "{path}");
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let request: ExecRequest = serde_json::from_slice(&body).unwrap();
            assert!(request.forget, "a guest keeps what nobody comes back for");
            let tries = request.command.iter().skip(6);
            let answer = match code(&machine, before) {
                Ok(code) => {
                    let stdout: String = tries.map(|one| format!("{one} {code} nc: timed out\n")).collect();
                    let result = ExecResult {
                        state: ExecState::Exited,
                        exit_code: Some(0),
                        stdout_bytes: stdout.len() as u64,
                        stdout,
                        stderr: String::new(),
                        stderr_bytes: 0,
                        boot_id: None,
                    };
                    Response::new(Body::from(serde_json::to_vec(&result).unwrap()))
                }
                Err(code) => {
                    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                        "message": "the guest agent does not answer", "reason": "GuestAgentUnavailable", "code": code.as_u16()});
                    let mut response = Response::new(Body::from(serde_json::to_vec(&status).unwrap()));
                    *response.status_mut() = code;
                    response
                }
            };
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    (Client::new(guests, "t"), asked)
}

async fn probed(tries: usize, code: fn(&str, usize) -> Result<u8, StatusCode>) -> (Result<Report>, usize) {
    let world = world();
    let all: Vec<&Endpoint> = world.endpoints().iter().collect();
    let questions = [Conversation::Tcp(80), Conversation::PING].map(Question::from);
    let cells: Vec<Cell<'_>> = world.matrix(&all, &all, &questions).collect();
    let (client, asked) = server(code);
    let report = run(&client, &world, &cells, Limits { tries, seconds: 1 }).await;
    (report, asked.load(Ordering::SeqCst))
}

#[tokio::test]
async fn one_command_a_machine_when_all_agrees() {
    let (report, asked) = probed(4, |_, _| Ok(0)).await;
    let report = report.unwrap();
    assert!(report.agrees(), "{report:?}");
    assert_eq!((report.findings.agreed, asked), (4, 2));
}

#[tokio::test]
async fn what_disagrees_is_tried_three_times_and_then_told() {
    let (report, asked) = probed(4, |machine, _| Ok(u8::from(machine == "a"))).await;
    let report = report.unwrap();
    assert!(!report.agrees());
    assert_eq!((report.findings.agreed, asked), (2, 2 + 1 + 1), "who agreed is left alone");
    let expected = ["tcp/80", "icmp"]
        .map(|what| format!("a → b {what} got no answer (nc: timed out), but is open by no group: open; hop: unknown"));
    assert_eq!(report.findings.mismatches, expected);
    assert_eq!(report.document()["mismatches"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn what_agrees_at_a_later_try_agrees() {
    let (report, asked) = probed(4, |_, before| Ok(u8::from(before < 2))).await;
    assert!(report.unwrap().agrees());
    assert_eq!(asked, 4);
}

#[tokio::test]
async fn a_guest_that_cannot_be_asked_proves_nothing() {
    let (report, _) = probed(4, |_, _| Err(StatusCode::SERVICE_UNAVAILABLE)).await;
    let report = report.unwrap();
    assert!(!report.agrees() && report.findings.mismatches.is_empty());
    assert!(report.findings.unknown.len() == 4, "{report:?}");
    assert!(report.findings.unknown[0].contains("the guest agent does not answer"), "{report:?}");
}

#[tokio::test]
async fn more_tries_than_allowed_are_refused_before_the_first() {
    let (report, asked) = probed(3, |_, _| Ok(0)).await;
    let why = report.unwrap_err().to_string();
    assert!(why.contains("needs 4 tries and may make 3") && why.contains("--max-tries"), "{why}");
    assert_eq!(asked, 0);
}
