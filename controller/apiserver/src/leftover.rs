//! What a refused client still had to say.
//!
//! Who may not do something hears it before the body of the request is read. A client that is still sending that body
//! then loses the answer: over HTTP/1.1 it meets a broken connection, over HTTP/2 some clients take the reset that follows
//! the answer for the answer. So a small rest is read and thrown away behind the answer, as the official server does it;
//! who has much more to say is cut off as before.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

/// Most bytes read for nothing; the official server's measure.
const MOST: usize = 256 * 1024;
/// The rest must be there within this time.
const WITHIN: Duration = Duration::from_secs(10);

/// A request's body whose rest is read when nobody wants it.
pub(crate) struct Leftover<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    /// None once its end, or its failure, was seen.
    body: Option<B>,
}

impl<B> Leftover<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    pub(crate) fn new(body: B) -> Self {
        Self { body: Some(body) }
    }
}

impl<B> Body for Leftover<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(context);
        if let Poll::Ready(None | Some(Err(_))) = frame {
            self.body = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B> Drop for Leftover<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(WITHIN, swallow(body)));
        }
    }
}

/// Reads to the end of a body, or as far as it is worth it.
async fn swallow<B>(mut body: B)
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut read = 0;
    while read < MOST
        && let Some(Ok(frame)) = body.frame().await
    {
        read += frame.data_ref().map_or(0, Bytes::len);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response};
    use http_body_util::Full;
    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    const REFUSAL: &str = "no";

    /// Refuses every request without a look at its body.
    async fn refuse(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        drop(request.map(Leftover::new));
        Ok(Response::new(Full::from(REFUSAL)))
    }

    /// Sends a head, reads the whole answer, and only then sends the body.
    async fn ask(client: &mut DuplexStream, size: usize) -> std::io::Result<()> {
        let head = format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n");
        client.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(format!("\r\n\r\n{REFUSAL}").as_bytes()) {
            if client.read_buf(&mut answer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        client.write_all(&vec![b' '; size]).await
    }

    #[tokio::test]
    async fn a_refused_client_may_finish_its_sentence_and_ask_again() {
        // Far less than a body fits between the two: what nobody reads would not go through.
        let (mut client, server) = tokio::io::duplex(4096);
        let serving = tokio::spawn(async move {
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service_fn(refuse)).await
        });
        let asking = async {
            for _ in 0..3 {
                ask(&mut client, MOST / 2).await?;
            }
            drop(client);
            Ok::<_, std::io::Error>(())
        };
        tokio::time::timeout(Duration::from_secs(60), asking).await.expect("in time").expect("the connection stays");
        serving.await.expect("task").expect("a sound connection");
    }

    #[tokio::test]
    async fn a_client_with_too_much_to_say_is_cut_off() {
        let (mut client, server) = tokio::io::duplex(4096);
        tokio::spawn(async move {
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service_fn(refuse)).await
        });
        let cut = tokio::time::timeout(Duration::from_secs(60), ask(&mut client, 16 * MOST)).await.expect("in time");
        assert!(cut.is_err(), "everything was read");
    }
}
