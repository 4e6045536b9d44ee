//! One session with its socket, its timer and its page events.

use super::clock::Clock;
use super::codec::{self, Frame};
use super::socket::{Happened, Socket, warn};
use crate::session::{Config, ConnectionState, Input, LockKey, Millis, Output, Session};
use gloo_timers::callback::Timeout;
use js_sys::{Function, Promise};
use lockrelay_protocol::CloseCode;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Event, EventTarget};

/// The longest span that `setTimeout` takes, in milliseconds.
const LONGEST_TIMEOUT: Millis = i32::MAX as Millis;

/// A listener on the page, by the name of its event.
type PageEvent = (&'static str, Closure<dyn FnMut(Event)>);

/// What authorises the client.
pub enum Token {
    /// Nothing.
    None,
    /// A fixed text.
    Text(String),
    /// Asked at each connection; may return a promise.
    Function(Function),
}

/// One session with its socket, its timer and its page events. What concerns the page's calls goes to `listener`.
///
/// No cell is borrowed while JavaScript runs: a callback may call back at once. Its inputs are taken, and their outputs are
/// carried out by whoever is at it already, in order.
pub struct Edge {
    session: RefCell<Session>,
    clock: Clock,
    urls: Vec<String>,
    token: Token,
    socket: RefCell<Option<Socket>>,
    /// The connection that the session wants: what an older one's token function answers comes too late.
    wanted: Cell<u64>,
    timer: RefCell<Option<(Millis, Timeout)>>,
    listener: Box<dyn Fn(Output)>,
    draining: Cell<bool>,
    /// The session has failed: nobody may enter it again.
    abandoned: Cell<bool>,
    page_events: RefCell<Vec<PageEvent>>,
    this: Weak<Edge>,
}

impl Edge {
    /// Connects to the first of the URLs.
    pub fn start(urls: Vec<String>, token: Token, seed: u64, listener: Box<dyn Fn(Output)>) -> Rc<Self> {
        let clock = Clock::new();
        let agent = concat!("lockrelay-js/", env!("CARGO_PKG_VERSION")).to_owned();
        let session = Session::new(
            clock.now(),
            Config {
                urls: urls.len(),
                agent,
                seed,
            },
        );
        let edge = Rc::new_cyclic(|this| Self {
            session: RefCell::new(session),
            clock,
            urls,
            token,
            socket: RefCell::new(None),
            wanted: Cell::new(0),
            timer: RefCell::new(None),
            listener,
            draining: Cell::new(false),
            abandoned: Cell::new(false),
            page_events: RefCell::new(Vec::new()),
            this: Weak::clone(this),
        });
        edge.listen_to_page("pagehide", Input::PageHidden);
        edge.listen_to_page("pageshow", Input::PageShown);
        edge.drain();
        edge
    }

    /// Hands the session an input and does what follows, before it returns.
    pub fn feed(&self, input: Input) {
        if self.abandoned.get() {
            return;
        }
        let now = self.clock.now();
        self.session.borrow_mut().handle(now, input);
        self.drain();
    }

    /// Whether the lock is over, from the clock alone.
    pub fn is_released(&self, lock: LockKey) -> bool {
        self.session.borrow().is_released(lock, self.clock.now())
    }

    /// The connection's state.
    pub fn state(&self) -> ConnectionState {
        self.session.borrow().state()
    }

    /// Ends the socket without a word to the session, when the session itself has failed. Timers, page events and answers of
    /// the token function that are still to come find nobody.
    pub fn abandon(&self) {
        self.abandoned.set(true);
        self.wanted.set(0);
        if let Ok(mut socket) = self.socket.try_borrow_mut() {
            *socket = None;
        }
    }

    fn drain(&self) {
        if self.draining.replace(true) {
            return;
        }
        loop {
            let output = self.session.borrow_mut().poll_output();
            match output {
                Some(output) => self.perform(output),
                None => break,
            }
        }
        self.draining.set(false);
        self.arm();
        if self.state() == ConnectionState::Closed {
            self.leave_page();
        }
    }

    fn perform(&self, output: Output) {
        match output {
            Output::Connect { epoch, url } => {
                self.wanted.set(epoch);
                self.connect(epoch, url);
            }
            Output::Send { message, .. } => {
                if let Some(socket) = &*self.socket.borrow() {
                    socket.send(&codec::encode(&message));
                }
            }
            Output::CloseSocket { code, reason, .. } => {
                self.wanted.set(0);
                // Out of the cell first: closing calls no handler, but dropping detaches them.
                let socket = self.socket.borrow_mut().take();
                if let Some(socket) = socket {
                    // A page may send 1000 or one of 3000 to 4999.
                    socket.close(if code < 3000 { CloseCode::Normal.as_u16() } else { code }, reason);
                }
            }
            output => (self.listener)(output),
        }
    }

    fn connect(&self, epoch: u64, url: usize) {
        match &self.token {
            Token::None => self.open(epoch, url, None),
            Token::Text(token) => self.open(epoch, url, Some(token.clone())),
            Token::Function(function) => {
                let this = Weak::clone(&self.this);
                let asked = function
                    .call0(&JsValue::UNDEFINED)
                    .map(|token| Promise::resolve(&token));
                wasm_bindgen_futures::spawn_local(async move {
                    let token = match asked {
                        Ok(promise) => JsFuture::from(promise).await,
                        Err(thrown) => Err(thrown),
                    };
                    let Some(edge) = this.upgrade() else { return };
                    match token {
                        Ok(token) => edge.open(epoch, url, token.as_string()),
                        Err(thrown) => {
                            warn("lockrelay: the token function failed; the client tries again:", &thrown);
                            edge.feed(Input::SocketClosed {
                                epoch,
                                code: None,
                                reason: String::new(),
                            });
                        }
                    }
                });
            }
        }
    }

    fn open(&self, epoch: u64, url: usize, token: Option<String>) {
        if self.wanted.get() != epoch {
            return;
        }
        let this = Weak::clone(&self.this);
        let token = Rc::new(RefCell::new(token));
        let happened = move |happened: Happened| {
            let Some(edge) = this.upgrade() else { return };
            edge.feed(match happened {
                Happened::Opened => Input::SocketOpened {
                    epoch,
                    token: token.borrow_mut().take(),
                },
                Happened::Text(text) => match codec::decode(&text) {
                    Frame::Message(message) => Input::Message { epoch, message },
                    Frame::Unknown => return,
                    Frame::Bad(problem) => Input::BadMessage {
                        epoch,
                        problem: problem.to_owned(),
                    },
                },
                Happened::NotText => Input::BadMessage {
                    epoch,
                    problem: "not text".to_owned(),
                },
                Happened::Closed { code, reason } => Input::SocketClosed {
                    epoch,
                    code: Some(code),
                    reason,
                },
            });
        };
        let socket = Socket::open(&self.urls[url], happened);
        let refused = socket.is_none();
        let before = self.socket.replace(socket);
        drop(before);
        if refused {
            self.feed(Input::SocketClosed {
                epoch,
                code: None,
                reason: String::new(),
            });
        }
    }

    /// Sets the one timer to the session's deadline.
    fn arm(&self) {
        let deadline = self.session.borrow().deadline();
        let mut timer = self.timer.borrow_mut();
        if timer.as_ref().map(|(at, _)| *at) == deadline {
            return;
        }
        *timer = deadline.map(|at| {
            let this = Weak::clone(&self.this);
            let wait = at.saturating_sub(self.clock.now()).min(LONGEST_TIMEOUT);
            let wait = u32::try_from(wait).expect("at most i32::MAX");
            let timeout = Timeout::new(wait, move || {
                if let Some(edge) = this.upgrade() {
                    // It has fired, so the same deadline needs another one: browsers round, and may be early.
                    let fired = edge.timer.borrow_mut().take();
                    drop(fired);
                    edge.feed(Input::Timer);
                }
            });
            (at, timeout)
        });
    }

    fn listen_to_page(&self, event: &'static str, input: Input) {
        let this = Weak::clone(&self.this);
        let listener = Closure::<dyn FnMut(Event)>::new(move |_| {
            if let Some(edge) = this.upgrade() {
                edge.feed(input.clone());
            }
        });
        let page: EventTarget = js_sys::global().unchecked_into();
        drop(page.add_event_listener_with_callback(event, listener.as_ref().unchecked_ref()));
        self.page_events.borrow_mut().push((event, listener));
    }

    fn leave_page(&self) {
        let page: EventTarget = js_sys::global().unchecked_into();
        let listeners = self.page_events.take();
        for (event, listener) in &listeners {
            drop(page.remove_event_listener_with_callback(event, listener.as_ref().unchecked_ref()));
        }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.leave_page();
    }
}
