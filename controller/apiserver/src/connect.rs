//! Connect subresources: doors to the thing behind an object (exec, logs, consoles).
//!
//! The server only resolves the object and hands the raw request over; whoever registered the subresource answers it.
//! Over a listener an HTTP/1.1 upgrade passes through: the service finds hyper's `OnUpgrade` in the request, answers
//! 101, and owns the bytes from then on. In-process there is no connection to upgrade, so such a service must
//! refuse with an error there; plain requests and streamed answers work both ways.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};

use axum::body::Body;
use axum::response::Response;
use http::Request;
use serde_json::Value;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};

use crate::error::Error;
use crate::object::Object;
use crate::registry::Resource;
use crate::server::{ApiServer, Server};
use crate::storage;

/// Answers the requests of a connect subresource.
pub type ConnectService = BoxCloneSyncService<Request<Body>, Response, Infallible>;

/// The object a connect request is about; an extension of the request.
#[derive(Debug, Clone)]
pub struct ConnectTarget {
    /// The object's namespace; empty for cluster-scoped kinds.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The object as it is now.
    pub object: Arc<Value>,
}

/// Who answers which connect subresource.
#[derive(Default)]
pub(crate) struct Connects(RwLock<HashMap<(String, String, String), ConnectService>>);

impl ApiServer {
    /// Has `service` answer a subresource of a kind, for every method.
    pub fn connect<S>(&self, group: &str, resource: &str, subresource: &str, service: S)
    where
        S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        let key = (group.to_owned(), resource.to_owned(), subresource.to_owned());
        let mut known = self.server.connects.0.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(key, BoxCloneSyncService::new(service));
        drop(known);
        self.server.registry.declare_connect(group, resource, subresource);
    }
}

impl Connects {
    /// Who answers this subresource.
    pub(crate) fn find(&self, group: &str, plural: &str, subresource: &str) -> Option<ConnectService> {
        let key = (group.to_owned(), plural.to_owned(), subresource.to_owned());
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }
}

/// Hands a request to the service of its subresource, if the caller may see the object.
pub(crate) async fn relay(
    server: &Server,
    resource: &Resource,
    (namespace, name): (Option<&str>, &str),
    service: ConnectService,
    may_see: impl Fn(&Value) -> Result<(), Error>,
    mut request: Request<Body>,
) -> Result<Response, Error> {
    if resource.definition.namespaced != namespace.is_some() {
        return Err(Error::NoRoute);
    }
    let key = storage::key(&server.store, &resource.definition, namespace, name);
    let entry = server.store.get(&key).await?.ok_or_else(|| Error::NotFound(resource.subject(name)))?;
    let object = resource.view(&Object::of(&entry)?).into_value();
    may_see(&object)?;
    request.extensions_mut().insert(ConnectTarget {
        namespace: namespace.unwrap_or("").to_owned(),
        name: name.to_owned(),
        object: Arc::new(object),
    });
    match service.oneshot(request).await {
        Ok(response) => Ok(response),
        Err(never) => match never {},
    }
}
