//! Anything may be shown as a client certificate: whatever the bytes, they name nobody but whom the authority named.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use pki::{Subject, Usage};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::fuzz::{LONGEST, damaged, runner};
use crate::lab::{Lab, SOON};
use crate::tls::{Served, serve};

const REVIEW: &str = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#;

/// The certificate of a user in two groups, and its key.
fn real(authority: &pki::Authority) -> Result<(Vec<u8>, Arc<dyn SigningKey>)> {
    let identity = authority.issue(&Subject::new("jane", ["tenants", "dev"]), &Usage::Client)?;
    let certificate = CertificateDer::from_pem_slice(identity.cert_pem.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())?;
    Ok((certificate.to_vec(), rustls::crypto::ring::sign::any_ecdsa_type(&key)?))
}

#[test]
fn any_bytes_are_a_certificate_or_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let authority = pki::Authority::load_or_create(dir.path(), "test")?;
    let (certificate, _) = real(&authority)?;
    let anything = proptest::collection::vec(any::<u8>(), 0..300);
    let bytes = prop_oneof![4 => damaged(certificate), 1 => anything];
    let ran = runner(5000).run(&bytes, |bytes| {
        let began = Instant::now();
        // Who is named matters only once the signature has been checked; here, that it ends, and well.
        let _ = pki::subject_of(&bytes);
        prop_assert!(began.elapsed() < LONGEST, "it took {:?}", began.elapsed());
        Ok(())
    });
    ran.map_err(|error| anyhow::anyhow!("{error}"))?;
    let name = prop_oneof!["[a-z:/,=+\"\\\\ ]{1,20}", "\\PC{1,20}", "[\u{0}-\u{20}é😀]{1,8}"];
    let named = (name.clone(), proptest::collection::vec(name, 0..4));
    let ran = runner(200).run(&named, |(user, groups)| {
        let subject = Subject::new(user, groups);
        let failed = |error: String| TestCaseError::fail(error);
        let issued = authority.issue(&subject, &Usage::Client).map_err(|error| failed(error.to_string()))?;
        let der = CertificateDer::from_pem_slice(issued.cert_pem.as_bytes()).map_err(|e| failed(e.to_string()))?;
        prop_assert_eq!(pki::subject_of(&der).map_err(|error| failed(error.to_string()))?, subject);
        Ok(())
    });
    ran.map_err(|error| anyhow::anyhow!("{error}"))
}

/// Shows its certificate without a look at it.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Whom the server takes the bearer for; nobody when it ends the connection.
async fn taken_for(served: &Served, certificate: Vec<u8>, key: Arc<dyn SigningKey>) -> Result<Option<Value>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(served.authority.cert_pem().as_bytes())?)?;
    let shown = CertifiedKey::new(vec![CertificateDer::from(certificate)], key);
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(Shown(Arc::new(shown))));
    let ask = async {
        let stream = TcpStream::connect(served.address).await?;
        let mut stream = TlsConnector::from(Arc::new(config)).connect("127.0.0.1".try_into()?, stream).await?;
        let head = "POST /apis/authentication.k8s.io/v1/selfsubjectreviews HTTP/1.1\r\nhost: x\r\nconnection: close";
        let length = REVIEW.len();
        let request = format!("{head}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{REVIEW}");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, anyhow::Error>(String::from_utf8(answer)?)
    };
    // However the connection ends: nobody was answered.
    let Ok(answer) = tokio::time::timeout(SOON, ask).await.context("the server is silent")? else { return Ok(None) };
    let Some((_, body)) = answer.split_once("\r\n\r\n") else { return Ok(None) };
    let body = body.find('{').map_or("", |at| &body[at..]);
    let document = serde_json::Deserializer::from_str(body).into_iter::<Value>().next().context("no document")??;
    Ok(Some(document["status"]["userInfo"].clone()))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_damaged_certificate_names_anybody_else() -> Result<()> {
    let lab = Lab::new().await?;
    let dir = tempfile::tempdir()?;
    let served = serve(&lab, dir.path()).await?;
    let (certificate, key) = real(&served.authority)?;
    let handle = tokio::runtime::Handle::current();
    let ran = tokio::task::block_in_place(|| {
        runner(150).run(&damaged(certificate.clone()), |bytes| {
            let whole = bytes == certificate;
            let taken = handle.block_on(taken_for(&served, bytes, key.clone()));
            let taken = taken.map_err(|error| TestCaseError::fail(format!("{error:#}")))?;
            prop_assert!(taken.is_some() == whole, "taken for {:?}, though damaged: {}", taken, !whole);
            Ok(())
        })
    });
    ran.map_err(|error| anyhow::anyhow!("{error}"))?;
    let jane = taken_for(&served, certificate, key).await?.context("the certificate itself opens nothing")?;
    ensure!(jane["username"] == "jane" && jane["groups"][0] == "tenants", "{jane}");
    served.stop().await?;
    lab.end().await
}
