//! The API without a socket: a `kube::Client` over the router, as one fixed identity.

use http::Request;
use kube::Client;
use kube::client::Body as KubeBody;
use tower::service_fn;

use crate::front::Inside;
use crate::identity::Identity;
use crate::server::ApiServer;

impl ApiServer {
    /// A client that speaks as `user`; must be called inside a tokio runtime.
    ///
    /// The same router, checks and errors as over the network, without TLS, HTTP framing or a connection. HTTP
    /// upgrades do not exist here.
    pub fn client(&self, user: &str, groups: &[&str], default_namespace: &str) -> Client {
        let identity = Identity::new(user, groups);
        let router = self.router();
        let service = service_fn(move |request: Request<KubeBody>| {
            let mut request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(identity.clone());
            request.extensions_mut().insert(Inside);
            tower::ServiceExt::oneshot(router.clone(), request)
        });
        Client::new(service, default_namespace)
    }
}
