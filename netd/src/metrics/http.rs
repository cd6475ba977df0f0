//! HTTP: one request on each connection. Whoever is slow or sends rubbish is cut off.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::channel::{Channel, Sender};
use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;

use super::text::openmetrics;
use crate::error::Result;
use crate::model::report::Metrics;
use crate::session::Session;
use crate::settings::Settings;

/// Where the metrics are.
const PATH: &str = "/metrics";
/// OpenMetrics 1.0.
const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// How long the head of a request may be, bytes. It is the least that the library takes.
const HEAD: usize = 8192;
/// How long a client may take to send it.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// How long it may take altogether: as long as Prometheus waits for a scrape.
const TIME: Duration = Duration::from_secs(10);
/// How much text is sent at once, bytes, and how many such pieces may wait for the client.
const PIECE: usize = 1 << 16;
const PIECES: usize = 2;

/// The body of an answer: short, or as it is encoded.
type Body = Either<Full<Bytes>, Channel<Bytes>>;

/// Answers the one request of a connection.
pub(super) async fn answer<S: AsyncRead + AsyncWrite + Unpin>(stream: S, settings: Arc<Settings>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD).keep_alive(false);
    let service = service_fn(move |request| respond(request, Arc::clone(&settings)));
    let connection = http.serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(TIME, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("a scrape failed: {error}"),
        Err(_slow) => tracing::debug!("a scrape took more than {TIME:?}"),
    }
}

async fn respond(request: Request<Incoming>, settings: Arc<Settings>) -> Result<Response<Body>, Infallible> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    Ok(match request.uri().path() {
        _ if !is_read => {
            let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "use GET");
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            refusal
        }
        PATH => scrape(*request.method() == Method::HEAD, settings).await,
        _ => plain(StatusCode::NOT_FOUND, "metrics are at /metrics"),
    })
}

/// The metrics. They are read and encoded on another thread, no faster than the client takes them.
async fn scrape(only_head: bool, settings: Arc<Settings>) -> Response<Body> {
    let gather = move || -> Result<Metrics> { Session::open(&settings)?.report_metrics() };
    match tokio::task::spawn_blocking(gather).await {
        Ok(Ok(metrics)) => {
            let body =
                if only_head { Either::Left(Full::default()) } else { Either::Right(encoded(metrics)) };
            with_type(StatusCode::OK, OPENMETRICS, body)
        }
        Ok(Err(error)) => plain(StatusCode::INTERNAL_SERVER_ERROR, &error.chain()),
        Err(panic) => plain(StatusCode::INTERNAL_SERVER_ERROR, &panic.to_string()),
    }
}

fn encoded(metrics: Metrics) -> Channel<Bytes> {
    let (sender, body) = Channel::new(PIECES);
    let metrics = Arc::new(metrics);
    // Ends with the connection, which is limited in time.
    tokio::task::spawn_blocking(move || {
        let mut pieces = Pieces { sender, piece: String::new(), runtime: Handle::current() };
        // The client has gone.
        let _gone = openmetrics(&metrics, &mut pieces).and_then(|()| pieces.send());
    });
    body
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    with_type(status, PLAIN, Either::Left(Full::from(format!("{text}\n"))))
}

fn with_type(status: StatusCode, kind: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Text on its way to a client, piece by piece.
struct Pieces {
    sender: Sender<Bytes>,
    piece: String,
    runtime: Handle,
}

impl Pieces {
    /// Sends what there is, once the client has taken what was sent before.
    fn send(&mut self) -> fmt::Result {
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        self.runtime.block_on(self.sender.send_data(piece)).map_err(|_gone| fmt::Error)
    }
}

impl fmt::Write for Pieces {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.piece.push_str(text);
        if self.piece.len() < PIECE { Ok(()) } else { self.send() }
    }
}
