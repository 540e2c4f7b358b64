//! Joins the API's connect subresources to the agents that answer them.

use agent::relay::Relay;
use anyhow::{Context, Result};
use apiserver::{ApiServer, ConnectTarget};
use axum::body::Body;
use axum::extract::Request;
use std::convert::Infallible;

/// The subresources that an agent's door answers, with their kinds.
const SUBRESOURCES: [(&str, &str); 5] = [
    ("virtualmachines", "exec"),
    ("virtualmachines", "log"),
    ("virtualmachines", "console"),
    ("virtualmachines", "portforward"),
    ("ports", "capture"),
];

/// Has every subresource of an object answered by the agent of its host.
pub fn connect(api: &ApiServer, identity: &pki::Identity, ca_pem: &str) -> Result<()> {
    let client = api.client(&super::access::reconciler("relay"), &[], "default");
    let relay = Relay::new(client, identity, ca_pem).context("failed to set up the relay to agents")?;
    for (resource, subresource) in SUBRESOURCES {
        let relay = relay.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let relay = relay.clone();
            async move {
                let host = request
                    .extensions()
                    .get::<ConnectTarget>()
                    .and_then(|target| target.object["spec"]["host"].as_str().map(str::to_owned));
                Ok::<_, Infallible>(relay.relay(host.as_deref(), request).await)
            }
        });
        api.connect(crds::GROUP, resource, subresource, service);
    }
    Ok(())
}
