//! Peers that mean ill on the wire: slow, many, silent, oversized. They cost little, and the others are served.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use apiserver::Options;
use axum::body::Body;
use http::Request;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::lab::{JSON, Lab, SOON, WIDGETS};
use crate::tls::{Served, let_in, serve};

/// The status line of what a raw request is answered with; empty when the connection just ends.
async fn first_line(served: &Served, request: &[u8]) -> Result<String> {
    let mut stream = served.connect(&served.authority, "http/1.1").await?;
    // A server that refuses early closes while we still write.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while !answer.contains(&b'\n') {
        match tokio::time::timeout(SOON, stream.read(&mut piece)).await.context("no answer")? {
            Ok(0) | Err(_) => break,
            Ok(n) => answer.extend_from_slice(&piece[..n]),
        }
    }
    Ok(String::from_utf8_lossy(&answer).lines().next().unwrap_or("").to_owned())
}

/// A good client is answered, and soon.
async fn serves_others(served: &Served) -> Result<()> {
    let began = Instant::now();
    let line = first_line(served, b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
    ensure!(line.contains(" 200 "), "{line:?} for a good client");
    ensure!(began.elapsed() < SOON, "a good client waited {:?}", began.elapsed());
    Ok(())
}

/// Bytes of memory this process occupies.
fn resident() -> Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let kilobytes: usize = line.split_whitespace().nth(1).context("no figure")?.parse()?;
    Ok(kilobytes * 1024)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_drips_is_cut_off_while_others_are_served() -> Result<()> {
    let lab = Lab::with(Options { head_timeout: Duration::from_millis(500), ..Options::default() }).await?;
    let dir = tempfile::tempdir()?;
    let served = serve(&lab, dir.path()).await?;
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut stream = served.connect(&served.authority, "http/1.1").await?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\n").await?;
        slow.push(stream);
    }
    serves_others(&served).await?;
    for mut stream in slow {
        let cut = async {
            // A header a moment, for ever: the end comes by the server.
            while stream.write_all(b"x-drip: y\r\n").await.is_ok() {
                let mut byte = [0; 1];
                let answer = tokio::time::timeout(Duration::from_millis(20), stream.read(&mut byte)).await;
                if matches!(answer, Ok(Ok(0) | Err(_))) {
                    return;
                }
            }
        };
        tokio::time::timeout(SOON, cut).await.context("a dripping head is never cut off")?;
    }
    serves_others(&served).await?;
    served.stop().await?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn many_silent_connections_keep_nobody_out() -> Result<()> {
    let lab = Lab::new().await?;
    let dir = tempfile::tempdir()?;
    let served = serve(&lab, dir.path()).await?;
    let before = resident()?;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(served.address).await?);
    }
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(served.connect(&served.authority, "http/1.1").await?);
    }
    serves_others(&served).await?;
    // The clients' half is in this process, too.
    let grown = resident()?.saturating_sub(before) / 400;
    println!("{grown} bytes for each connection, both ends");
    ensure!(grown < 200 * 1024, "{grown} bytes for each connection");
    drop((silent, idle));
    served.stop().await?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_heads_are_refused() -> Result<()> {
    let lab = Lab::new().await?;
    let dir = tempfile::tempdir()?;
    let served = serve(&lab, dir.path()).await?;
    let huge = "x".repeat(1 << 20);
    let heads = [
        format!("GET /readyz HTTP/1.1\r\nhost: x\r\nx-huge: {huge}\r\n\r\n"),
        format!("GET /{huge} HTTP/1.1\r\nhost: x\r\n\r\n"),
        format!("GET /readyz HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(5000)),
        "GET /readyz HTTP/9.9\r\n\r\n".to_owned(),
        "\0\0\0\0\r\n\r\n".to_owned(),
    ];
    for head in heads {
        let line = first_line(&served, head.as_bytes()).await?;
        let refused = line.is_empty() || line.split(' ').nth(1).is_some_and(|code| code.starts_with('4'));
        ensure!(refused, "{} bytes were answered with {line:?}", head.len());
    }
    serves_others(&served).await?;
    served.stop().await?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_megabytes_are_refused_without_being_kept() -> Result<()> {
    let lab = Lab::new().await?;
    let dir = tempfile::tempdir()?;
    let served = serve(&lab, dir.path()).await?;
    lab.widget("a", json!({})).await?;
    let_in(&lab).await?;
    let before = resident()?;
    for (method, path) in
        [("POST", WIDGETS.to_owned()), ("PATCH", format!("{WIDGETS}/a")), ("DELETE", format!("{WIDGETS}/a"))]
    {
        for _ in 0..5 {
            let io = TokioIo::new(served.connect(&served.authority, "http/1.1").await?);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
            tokio::spawn(connection);
            let piece = bytes::Bytes::from(vec![b' '; 64 << 10]);
            let pieces = futures::stream::iter((0..160).map(move |_| Ok::<_, std::io::Error>(piece.clone())));
            let media = if method == "PATCH" { "application/merge-patch+json" } else { JSON };
            let request = Request::builder()
                .method(method)
                .uri(&path)
                .header("host", "x")
                .header("content-type", media)
                .body(Body::from_stream(pieces))?;
            // Either the refusal arrives, or the connection was closed under the rest of the body.
            if let Ok(response) = tokio::time::timeout(SOON, sender.send_request(request)).await.context("no answer")? {
                assert_eq!(response.status(), 413, "{method}");
            }
        }
    }
    let grown = resident()?.saturating_sub(before);
    println!("{} KiB after 15 bodies of ten megabytes", grown / 1024);
    ensure!(grown < 64 << 20, "{grown} bytes are kept");
    serves_others(&served).await?;
    served.stop().await?;
    lab.end().await
}
