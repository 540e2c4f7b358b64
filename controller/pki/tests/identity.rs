//! Certificates as TLS peers and the file system see them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use pki::{Authority, Identity, Subject, Usage, client_config, server_config, subject_of};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

fn authority(dir: &Path) -> Authority {
    Authority::load_or_create(dir, "test authority").unwrap()
}

fn server_names() -> Usage {
    Usage::Server { names: vec!["localhost".into(), "127.0.0.1".into(), "::1".into()] }
}

fn anna() -> Subject {
    Subject::new("anna", ["system:masters", "developers", "ops"])
}

fn der(identity: &Identity) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(identity.cert_pem.as_bytes()).unwrap()
}

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Both ends' verdict on a connection, with the subject that the server saw.
async fn shake_hands(
    server: rustls::ServerConfig,
    client: rustls::ClientConfig,
    name: &str,
) -> Result<Subject, String> {
    let (near, far) = duplex(64 << 10);
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let accept = async {
        let mut stream = acceptor.accept(far).await.map_err(|error| error.to_string())?;
        let peer = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        stream.write_all(b"hello").await.map_err(|error| error.to_string())?;
        stream.shutdown().await.map_err(|error| error.to_string())?;
        Ok::<_, String>(subject_of(&peer).unwrap())
    };
    let connect = async {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut stream =
            TlsConnector::from(Arc::new(client)).connect(name, near).await.map_err(|error| error.to_string())?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.map_err(|error| error.to_string())?;
        assert_eq!(text, "hello");
        Ok::<_, String>(())
    };
    let (seen, said) = tokio::join!(accept, connect);
    said?;
    seen
}

#[tokio::test]
async fn a_user_of_several_groups_is_known_to_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(dir.path());
    let server = ca.issue(&Subject::new("server", [""; 0]), &server_names()).unwrap();
    let client = ca.issue(&anna(), &Usage::Client).unwrap();
    for name in ["localhost", "127.0.0.1", "::1"] {
        let seen = shake_hands(
            server_config(&server, ca.cert_pem()).unwrap(),
            client_config(&client, ca.cert_pem()).unwrap(),
            name,
        );
        assert_eq!(seen.await.unwrap(), anna());
    }
}

#[tokio::test]
async fn strangers_and_misused_certificates_are_turned_away() {
    let (dir, other_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ca, other) = (authority(dir.path()), authority(other_dir.path()));
    let server = ca.issue(&Subject::new("server", [""; 0]), &server_names()).unwrap();
    let client = ca.issue(&anna(), &Usage::Client).unwrap();
    let stranger = other.issue(&anna(), &Usage::Client).unwrap();
    let try_out = |server: &Identity, client: &Identity, name: &'static str| {
        let server = server_config(server, ca.cert_pem()).unwrap();
        shake_hands(server, client_config(client, ca.cert_pem()).unwrap(), name)
    };
    assert!(try_out(&server, &client, "localhost").await.is_ok());
    assert!(try_out(&server, &stranger, "localhost").await.is_err(), "signed by another authority");
    assert!(try_out(&server, &server, "localhost").await.is_err(), "a server's certificate as client");
    assert!(try_out(&client, &client, "localhost").await.is_err(), "a client's certificate as server");
    assert!(try_out(&server, &client, "example.org").await.is_err(), "another name");
}

#[tokio::test]
async fn a_certificate_for_both_serves_and_calls() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(dir.path());
    let usage = Usage::Both { names: vec!["127.0.0.1".into()] };
    let both = ca.issue(&Subject::new("etcd", [""; 0]), &usage).unwrap();
    let seen = shake_hands(
        server_config(&both, ca.cert_pem()).unwrap(),
        client_config(&both, ca.cert_pem()).unwrap(),
        "127.0.0.1",
    );
    assert_eq!(seen.await.unwrap().common_name, "etcd");
}

#[test]
fn keys_are_for_their_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("a/pki");
    let ca = authority(&pki);
    ca.load_or_issue(&pki, "anna", &anna(), &Usage::Client).unwrap();
    assert_eq!(mode(&pki), 0o700);
    for key in ["ca.key", "anna.key"] {
        assert_eq!(mode(pki.join(key)), 0o600, "{key}");
    }
    assert_eq!(fs::read_dir(&pki).unwrap().count(), 4, "no temporary file stays");
    assert!(!format!("{:?}", ca.issue(&anna(), &Usage::Client).unwrap()).contains("PRIVATE"));
}

#[test]
fn what_is_kept_and_still_right_is_not_issued_again() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(dir.path());
    let load =
        |ca: &Authority, subject: &Subject, usage: &Usage| ca.load_or_issue(dir.path(), "one", subject, usage).unwrap();
    let first = load(&ca, &anna(), &server_names());
    let again = authority(dir.path());
    assert_eq!(again.cert_pem(), ca.cert_pem());
    assert_eq!(load(&again, &anna(), &server_names()), first);

    let mut names = vec!["::1".to_owned(), "localhost".into(), "127.0.0.1".into()];
    assert_eq!(load(&ca, &anna(), &Usage::Server { names: names.clone() }), first, "order is no change");
    names.push("host-2".into());
    let renamed = load(&ca, &anna(), &Usage::Server { names: names.clone() });
    assert_ne!(renamed, first);
    assert_ne!(load(&ca, &anna(), &Usage::Both { names: names.clone() }), renamed, "another usage");
    let other = Subject::new("anna", ["developers"]);
    let regrouped = load(&ca, &other, &Usage::Both { names });
    assert_eq!(subject_of(&der(&regrouped)).unwrap(), other);
}

#[test]
fn what_is_damaged_is_issued_anew() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(dir.path());
    let load = || ca.load_or_issue(dir.path(), "one", &anna(), &Usage::Client).unwrap();
    let first = load();
    fs::write(dir.path().join("one.crt"), "").unwrap();
    let second = load();
    assert_ne!(first, second);
    let stolen = ca.issue(&anna(), &Usage::Client).unwrap();
    fs::write(dir.path().join("one.key"), &stolen.key_pem).unwrap();
    let third = load();
    assert!(third.key_pem != stolen.key_pem && third != second, "key and certificate must belong together");
}

#[test]
fn a_new_authority_makes_the_old_certificates_worthless() {
    let dir = tempfile::tempdir().unwrap();
    let leaf = |ca: &Authority| ca.load_or_issue(dir.path(), "one", &anna(), &Usage::Client).unwrap();
    let first = leaf(&authority(dir.path()));
    fs::remove_file(dir.path().join("ca.key")).unwrap();
    let error = Authority::load_or_create(dir.path(), "x").unwrap_err();
    assert!(error.to_string().contains("ca.key"), "{error}");
    fs::remove_file(dir.path().join("ca.crt")).unwrap();
    assert_ne!(leaf(&authority(dir.path())), first);
}

#[test]
fn the_authority_is_renewed_with_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(dir.path());
    let leaf = ca.load_or_issue(dir.path(), "one", &anna(), &Usage::Client).unwrap();
    fs::remove_file(dir.path().join("ca.crt")).unwrap();
    let renewed = authority(dir.path());
    assert_ne!(renewed.cert_pem(), ca.cert_pem());
    assert_eq!(renewed.load_or_issue(dir.path(), "one", &anna(), &Usage::Client).unwrap(), leaf);
}

#[test]
fn many_starters_agree_on_one_authority() {
    let dir = tempfile::tempdir().unwrap();
    let certs: Vec<String> = std::thread::scope(|scope| {
        let starters: Vec<_> = (0..8).map(|_| scope.spawn(|| authority(dir.path()).cert_pem().to_owned())).collect();
        starters.into_iter().map(|starter| starter.join().unwrap()).collect()
    });
    assert!(certs.iter().all(|cert| *cert == certs[0]));
}

#[test]
fn bytes_that_are_no_certificate_are_an_error() {
    assert!(subject_of(b"nonsense").is_err());
    assert!(subject_of(&[]).is_err());
}
