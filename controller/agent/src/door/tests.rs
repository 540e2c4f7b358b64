//! The door through its own relay: who comes in, and that streams flow.

use super::*;
use crate::layout::Layout;
use crate::relay::Relay;
use axum::http::{Method, header};
use control_loop::Cache;
use http_body_util::BodyExt;
use pki::{Authority, Subject, Usage};

struct House {
    _dir: tempfile::TempDir,
    relay: Relay,
    stranger: Relay,
    endpoint: String,
    shutdown: CancellationToken,
    vms: control_loop::Writer<crds::VirtualMachine>,
    layout: Layout,
}

async fn house() -> House {
    pki::install_crypto_provider();
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(&dir.path().join("pki"), "test").unwrap();
    let names = vec!["host0".to_owned()];
    let subject = Subject::new("system:agent:host0", ["system:agents"]);
    let identity = authority.issue(&subject, &Usage::Both { names }).unwrap();
    let identity = pki::Shown::new(&identity).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let door = Door::open(listener, &identity, authority.cert_pem()).unwrap();
    let layout = Layout::new(&dir.path().join("data")).unwrap();
    layout.create().unwrap();
    let (vms, writer) = Cache::new();
    let lookup = Lookup {
        vms,
        ports: Cache::new().0,
        machines: Arc::default(),
        layout: layout.clone(),
        captures: Captures::default(),
    };
    let endpoint = door.address.to_string();
    let shutdown = CancellationToken::new();
    tokio::spawn(door.serve(lookup, shutdown.clone()));
    let relay_as = |name: &str| {
        let none: [&str; 0] = [];
        let identity = authority.issue(&Subject::new(name, none), &Usage::Client).unwrap();
        let nobody = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Ok::<_, std::convert::Infallible>(http::Response::new(kube::client::Body::empty()))
        });
        Relay::new(kube::Client::new(nobody, "default"), &identity, authority.cert_pem()).unwrap()
    };
    let (relay, stranger) = (relay_as(CALLER), relay_as("mallory"));
    House { _dir: dir, relay, stranger, endpoint, shutdown, vms: writer, layout }
}

fn request(path: &str) -> Request {
    Request::builder().method(Method::GET).uri(format!("https://api{path}")).body(Body::empty()).unwrap()
}

const LOG: &str = "/apis/photoncloud.dev/v1alpha1/namespaces/t/virtualmachines/a/log?tailLines=1";

fn vm() -> crds::VirtualMachine {
    let spec = serde_json::from_value(serde_json::json!({"image": "i"})).unwrap();
    let mut vm = crds::VirtualMachine::new("a", spec);
    vm.metadata.namespace = Some("t".into());
    vm.metadata.uid = Some("u1".into());
    vm
}

#[tokio::test]
async fn only_the_api_server_comes_in_and_only_the_named_host_is_trusted() {
    let house = house().await;
    let refused = house.stranger.forward(&house.endpoint, "host0", request(LOG)).await.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let absent = house.relay.forward(&house.endpoint, "host0", request(LOG)).await.unwrap();
    assert_eq!(absent.status(), StatusCode::NOT_FOUND);
    let impostor = house.relay.forward(&house.endpoint, "host1", request(LOG)).await.unwrap_err();
    assert!(sentence(&impostor).contains("certificate"), "{}", sentence(&impostor));
    let metrics = house.relay.forward(&house.endpoint, "host0", request("/metrics")).await.unwrap();
    assert_eq!(metrics.status(), StatusCode::OK);
    house.shutdown.cancel();
}

#[tokio::test]
async fn a_log_comes_through_with_its_query() {
    let mut house = house().await;
    house.vms.apply_watcher_event(&kube::runtime::watcher::Event::Apply(vm()));
    let run_dir = house.layout.run_dir("u1");
    std::fs::create_dir_all(&run_dir).unwrap();
    std::fs::write(host::qemu::serial_log::path(&run_dir), "one\ntwo\n").unwrap();
    let response = house.relay.forward(&house.endpoint, "host0", request(LOG)).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "two\n");
    house.shutdown.cancel();
}

#[tokio::test]
async fn a_stream_needs_an_upgrade_and_a_machine_that_runs() {
    let mut house = house().await;
    house.vms.apply_watcher_event(&kube::runtime::watcher::Event::Apply(vm()));
    let console = LOG.replace("log?tailLines=1", "console");
    let mut request = request(&console);
    request.headers_mut().insert(header::UPGRADE, "photon-stream".parse().unwrap());
    request.headers_mut().insert(header::CONNECTION, "Upgrade".parse().unwrap());
    let response = house.relay.forward(&house.endpoint, "host0", request).await.unwrap();
    assert_eq!(response.status(), StatusCode::CONFLICT);
    house.shutdown.cancel();
}
