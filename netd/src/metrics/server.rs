//! The server: a thread that listens where the setting says, for as long as the follower is at work.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::Builder;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use super::http;
use super::socket::Place;
use crate::error::{Doing as _, Error, Result};
use crate::model::MetricsEndpoint;
use crate::session::{Session, Watch};
use crate::settings::Settings;

/// The socket, in the folder of the instance.
const SOCKET: &str = "metrics.sock";
/// How often it looks whether it is to listen elsewhere.
const PERIOD: Duration = Duration::from_secs(1);
/// How many clients are answered at once, at each address. Others wait.
const CLIENTS: usize = 4;
/// How long it waits if the kernel gives it no connection: this process has too many files open.
const PAUSE: Duration = Duration::from_millis(100);

/// The server. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    problem: Arc<Mutex<Option<String>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts it for the instance of the namespace with this cookie.
    pub(crate) fn start(settings: &Settings, cookie: u64) -> Result<Self> {
        let what = || "start the thread that serves metrics".to_owned();
        let problem = Arc::default();
        let (stop, stopped) = oneshot::channel();
        let listening = Listening {
            settings: Arc::new(settings.clone()),
            cookie,
            problem: Arc::clone(&problem),
            records: Watch::new(settings, cookie),
            endpoint: MetricsEndpoint::Auto,
            unix: None,
            tcp: None,
        };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(2 * CLIENTS)
            .build()
            .doing(what)?;
        let work = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = listening.keep() => {}
                    _ = stopped => {}
                }
            });
            // Scrapes end with their connections.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("metrics".into()).spawn(work).doing(what)?;
        Ok(Self { problem, stop: Some(stop), thread: Some(thread) })
    }

    /// Why it does not listen everywhere where it should; none if it does.
    pub(crate) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        // It removes its socket first.
        let _panicked = self.thread.take().map(JoinHandle::join);
    }
}

/// What it listens on.
struct Listening {
    settings: Arc<Settings>,
    cookie: u64,
    problem: Arc<Mutex<Option<String>>>,
    records: Watch,
    endpoint: MetricsEndpoint,
    unix: Option<(Place, Task)>,
    tcp: Option<(SocketAddr, Task)>,
}

/// A task that ends when this is dropped.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Listening {
    /// Listens where the setting says.
    async fn keep(mut self) {
        let mut clock = tokio::time::interval(PERIOD);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            let errors = [self.follow_setting(), self.listen_on_socket(), self.listen_on_host()];
            let problem = Error::all(errors.into_iter().filter_map(Result::err).collect()).err();
            *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem.map(|error| error.chain());
        }
    }

    /// Reads the setting if the records have changed.
    fn follow_setting(&mut self) -> Result<()> {
        let (settings, endpoint) = (&self.settings, &mut self.endpoint);
        self.records.look(|are_there| {
            let session = are_there.then(|| Session::open(settings)).transpose()?;
            *endpoint = session.map_or_else(MetricsEndpoint::default, |one| one.metrics_endpoint());
            Ok(())
        })
    }

    /// As long as there are records: otherwise a command removes the folder.
    fn listen_on_socket(&mut self) -> Result<()> {
        if self.endpoint == MetricsEndpoint::Off || !self.records.has_records() {
            self.unix = None;
        } else if !self.unix.as_ref().is_some_and(|(place, _)| place.is_there()) {
            self.unix = None;
            let (place, listener) = Place::make(&self.path())?;
            self.unix = Some((place, self.serve(listener)));
        }
        Ok(())
    }

    fn listen_on_host(&mut self) -> Result<()> {
        let wanted = self.endpoint.tcp();
        if self.tcp.as_ref().map(|(address, _)| *address) == wanted {
            return Ok(());
        }
        self.tcp = None;
        if let Some(address) = wanted {
            let what = || format!("listen on {address}");
            let listener = self.settings.host.run(|| StdListener::bind(address))?.doing(what)?;
            listener.set_nonblocking(true).doing(what)?;
            self.tcp = Some((address, self.serve(TcpListener::from_std(listener).doing(what)?)));
        }
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.settings.state_dir.join(self.cookie.to_string()).join(SOCKET)
    }

    fn serve<L: Listen + Send + 'static>(&self, listener: L) -> Task {
        Task(tokio::spawn(accept(listener, Arc::clone(&self.settings))).abort_handle())
    }
}

/// Something that accepts connections.
trait Listen {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next one.
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listen for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        Ok(self.accept().await?.0)
    }
}

/// Answers clients, a few at once. Their connections end with this.
async fn accept<L: Listen>(listener: L, settings: Arc<Settings>) {
    let places = Arc::new(Semaphore::new(CLIENTS));
    let mut clients = JoinSet::new();
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        while clients.try_join_next().is_some() {}
        match listener.next().await {
            Ok(stream) => {
                let settings = Arc::clone(&settings);
                clients.spawn(async move {
                    http::answer(stream, settings).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!("cannot accept a scrape: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
