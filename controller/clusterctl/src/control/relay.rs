//! Joins the API's connect subresources to the agents that answer them.

use agent::relay::Relay;
use anyhow::{Context, Result};
use apiserver::{ApiServer, ConnectTarget};
use axum::body::Body;
use axum::extract::Request;
use std::convert::Infallible;

/// The subresources that an agent's door answers.
const SUBRESOURCES: [&str; 4] = ["exec", "log", "console", "portforward"];

/// Has every subresource of a machine answered by the agent of its host.
pub fn connect(api: &ApiServer, identity: &pki::Identity, ca_pem: &str) -> Result<()> {
    let client = api.client(&super::access::reconciler("relay"), &[], "default");
    let relay = Relay::new(client, identity, ca_pem).context("failed to set up the relay to agents")?;
    for subresource in SUBRESOURCES {
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
        api.connect(crds::GROUP, "virtualmachines", subresource, service);
    }
    Ok(())
}
