//! The loop against an API in memory.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use http::{Request, Response};
use http_body_util::{Either, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::client::Body;
use kube::runtime::controller::Action;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::{Failure, Retry};

type Events = UnboundedSender<Value>;
type Stream = StreamBody<futures::stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

/// Lists nothing at first; what is told later comes through the watches.
#[derive(Clone, Default)]
struct FakeApi {
    watches: Arc<Mutex<Vec<(String, Events)>>>,
}

impl FakeApi {
    fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let answer = api.answer(&request);
            async move { Ok::<_, Infallible>(Response::new(answer)) }
        });
        Client::new(service, "t")
    }

    fn answer(&self, request: &Request<Body>) -> Either<Full<Bytes>, Stream> {
        if !request.uri().query().unwrap_or_default().contains("watch=") {
            let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": []});
            return Either::Left(Full::new(list.to_string().into()));
        }
        let (told, events) = unbounded();
        self.watches.lock().unwrap().push((request.uri().path().to_owned(), told));
        let lines = events.map(|event: Value| Ok(Frame::data(Bytes::from(format!("{event}\n")))));
        Either::Right(StreamBody::new(lines.boxed()))
    }

    /// Tells the watches of a resource, once there is one.
    async fn tell(&self, resource: &str, type_: &str, object: Value) {
        let path = format!("/api/v1/{resource}");
        loop {
            {
                let watches = self.watches.lock().unwrap();
                let mut concerned = watches.iter().filter(|(watched, _)| *watched == path).peekable();
                if concerned.peek().is_some() {
                    concerned.for_each(|(_, watch)| {
                        watch.unbounded_send(json!({"type": type_, "object": object})).unwrap();
                    });
                    return;
                }
            }
            tokio::task::yield_now().await;
        }
    }
}

fn object(kind: &str, name: &str, owner: Option<&str>) -> Value {
    let reference = |name| json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": "u"}]);
    json!({"apiVersion": "v1", "kind": kind, "metadata": {
        "name": name, "namespace": "t", "uid": name, "resourceVersion": "2", "ownerReferences": owner.map(reference)}})
}

#[derive(Debug, thiserror::Error)]
#[error("made up")]
struct MadeUp;

impl Failure for MadeUp {
    fn category(&self) -> &'static str {
        "MadeUp"
    }
    fn retry(&self) -> Retry {
        Retry::After(Duration::from_millis(5))
    }
}

/// Tells whom it looks at; fails, then panics, at what is called so.
struct Looks {
    told: mpsc::UnboundedSender<String>,
    bad: Mutex<u32>,
}

impl Reconciler for Looks {
    type Kind = ConfigMap;
    type Error = MadeUp;

    async fn reconcile(&self, object: Arc<ConfigMap>) -> Result<Action, MadeUp> {
        let name = object.name_any();
        let _ = self.told.send(name.clone());
        if name == "bad" {
            let mut bad = self.bad.lock().unwrap_or_else(|broken| broken.into_inner());
            *bad += 1;
            assert_ne!(*bad, 2, "a panic stays in its object");
            return if *bad == 1 { Err(MadeUp) } else { Ok(Action::await_change()) };
        }
        Ok(Action::await_change())
    }
}

async fn next(looks: &mut mpsc::UnboundedReceiver<String>) -> String {
    tokio::time::timeout(Duration::from_secs(20), looks.recv()).await.expect("no look").expect("the loop has ended")
}

#[tokio::test]
async fn objects_are_looked_at_when_they_or_what_they_own_or_depend_on_changes() {
    let (api, shutdown) = (FakeApi::default(), CancellationToken::new());
    let (told, mut looks) = mpsc::unbounded_channel();
    let client = api.client();
    let control = ControlLoop::new(Api::<ConfigMap>::all(client.clone()), shutdown.clone());
    let cache = control.cache();
    let control = control
        .owns(Api::<Secret>::all(client))
        .wakes_kin(move |changed| cache.names(|other| other.name_any() == format!("after-{}", changed.name_any())));
    let running = tokio::spawn(control.run(Looks { told, bad: Mutex::default() }, Pace::at_once(2)));

    api.tell("configmaps", "ADDED", object("ConfigMap", "after-a", None)).await;
    assert_eq!(next(&mut looks).await, "after-a");
    // An owner that is not there yet: its child wakes nobody, and keeps nobody from being woken.
    api.tell("secrets", "ADDED", object("Secret", "child", Some("a"))).await;
    api.tell("configmaps", "ADDED", object("ConfigMap", "a", None)).await;
    let mut both = [next(&mut looks).await, next(&mut looks).await];
    both.sort();
    assert_eq!(both, ["a", "after-a"]);
    api.tell("secrets", "MODIFIED", object("Secret", "child", Some("a"))).await;
    assert_eq!(next(&mut looks).await, "a");
    api.tell("secrets", "DELETED", object("Secret", "child", Some("a"))).await;
    assert_eq!(next(&mut looks).await, "a");
    shutdown.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_failure_and_a_panic_are_tried_again_and_counted() {
    let (api, shutdown) = (FakeApi::default(), CancellationToken::new());
    let (told, mut looks) = mpsc::unbounded_channel();
    let control = ControlLoop::new(Api::<ConfigMap>::all(api.client()), shutdown.clone());
    let running = tokio::spawn(control.run(Looks { told, bad: Mutex::default() }, Pace::at_once(1)));
    api.tell("configmaps", "ADDED", object("ConfigMap", "bad", None)).await;
    for _ in 0..3 {
        assert_eq!(next(&mut looks).await, "bad");
    }
    shutdown.cancel();
    running.await.unwrap();
    let errors = crate::metrics::METRICS.errors.with_label_values(&["ConfigMap", "MadeUp"]).get();
    assert!(errors >= 1, "{errors} errors were counted");
}
