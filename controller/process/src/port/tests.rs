//! Who is named, who is waited for, and what a reservation keeps off.

use super::*;
use std::cell::Cell;

/// An address with a port that no connection of another test is given in between.
fn local() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, crate::claim::draw(|_| true).unwrap()))
}

#[tokio::test]
async fn the_holder_of_a_port_is_named_and_nobody_once_it_is_free() {
    let us = format!("(process {})", std::process::id());
    for bound in ["127.0.0.1", "0.0.0.0", "::1", "::"] {
        let port = local().port();
        let Ok(listener) = listen(SocketAddr::new(bound.parse().unwrap(), port)).await else { continue };
        let asked = SocketAddr::new(if bound == "::1" { bound } else { "127.0.0.1" }.parse().unwrap(), port);
        let refused = listen(asked).await.unwrap_err().to_string();
        assert!(refused.starts_with(&format!("{asked} is taken by ")) && refused.ends_with(&us), "{bound}: {refused}");
        drop(listener);
        assert_eq!(holder_of(asked), None, "{bound}");
        drop(listen(asked).await.unwrap());
    }
}

#[tokio::test]
async fn a_connection_that_has_the_port_is_named_as_one() {
    let other = listen(local()).await.unwrap();
    let connection = tokio::net::TcpStream::connect(other.local_addr().unwrap()).await.unwrap();
    let refused = listen(connection.local_addr().unwrap()).await.unwrap_err().to_string();
    assert!(refused.contains("is taken by a connection of ") && refused.contains("(process "), "{refused}");
}

/// A killed process's sockets are closed while one looks: refused at first, and nobody is there when one asks who.
#[tokio::test]
async fn what_nobody_has_open_any_more_is_waited_for() {
    let listener = listen(local()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tries, listener) = (Cell::new(0), Cell::new(Some(listener)));
    let bound = once_free(address, || {
        tries.set(tries.get() + 1);
        if listener.take().is_some() { Err(io::Error::from(ErrorKind::AddrInUse)) } else { Ok(()) }
    });
    bound.await.unwrap();
    assert_eq!(tries.get(), 2);
}

#[test]
fn only_what_may_go_by_itself_is_waited_for() {
    let us = rustix::process::geteuid().as_raw();
    let ended = Holder { program: None, user: us, listens: true };
    assert!(ended.may_be_ending());
    assert!(!Holder { program: Some(("sshd".to_owned(), 1)), ..ended.clone() }.may_be_ending());
    let strangers = Holder { user: us + 1, ..ended };
    assert_eq!(strangers.may_be_ending(), us == 0, "root sees whose it is, others do not");
    assert!(strangers.to_string().contains(&format!("the user with id {}", us + 1)), "{strangers}");
}

/// Whoever is meant to listen does so, again and again; whoever asks for any port gets another.
#[tokio::test]
async fn a_reserved_port_is_for_its_listener_alone() {
    let reserved = reserve(local()).await.unwrap();
    let address = reserved._socket.local_addr().unwrap();
    for _ in 0..3 {
        let listener = listen(address).await.unwrap();
        assert!(matches!(reserve(address).await, Err(ListenError::Taken { .. })), "two listen");
        let client = tokio::net::TcpStream::connect(address).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        drop((accepted, client, listener));
    }
}

/// A connection may not come from a reserved port; without the reservation it may.
#[tokio::test]
async fn no_connection_comes_from_a_reserved_port() {
    let other = listen(local()).await.unwrap();
    let reserved = reserve(local()).await.unwrap();
    let address = reserved._socket.local_addr().unwrap();
    let from_there = async || {
        let socket = TcpSocket::new_v4()?;
        socket.bind(address)?;
        socket.connect(other.local_addr()?).await
    };
    assert_eq!(from_there().await.unwrap_err().kind(), ErrorKind::AddrInUse);
    drop(reserved);
    from_there().await.unwrap();
}
