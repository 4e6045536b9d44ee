//! One WebSocket with its handlers, which go with it.

use lockrelay_protocol::SUBPROTOCOL;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{CloseEvent, Event, MessageEvent, WebSocket};

/// What a socket reports.
pub(super) enum Happened {
    /// It is open.
    Opened,
    /// A text frame.
    Text(String),
    /// A frame that is not text.
    NotText,
    /// It ended, or could not be opened.
    Closed { code: u16, reason: String },
}

pub(super) struct Socket {
    socket: WebSocket,
    _on_open: Closure<dyn FnMut(Event)>,
    _on_message: Closure<dyn FnMut(MessageEvent)>,
    _on_close: Closure<dyn FnMut(CloseEvent)>,
}

impl Socket {
    /// Opens one; `None` if the browser refuses the URL (mixed content, a bad port).
    pub(super) fn open(url: &str, happened: impl Fn(Happened) + Clone + 'static) -> Option<Self> {
        let socket = WebSocket::new_with_str(url, SUBPROTOCOL).ok()?;
        let on_open = {
            let happened = happened.clone();
            Closure::<dyn FnMut(Event)>::new(move |_| happened(Happened::Opened))
        };
        let on_message = {
            let happened = happened.clone();
            Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
                happened(event.data().as_string().map_or(Happened::NotText, Happened::Text));
            })
        };
        let on_close = Closure::<dyn FnMut(CloseEvent)>::new(move |event: CloseEvent| {
            happened(Happened::Closed {
                code: event.code(),
                reason: event.reason(),
            });
        });
        socket.set_onopen(Some(on_open.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        socket.set_onclose(Some(on_close.as_ref().unchecked_ref()));
        Some(Self {
            socket,
            _on_open: on_open,
            _on_message: on_message,
            _on_close: on_close,
        })
    }

    /// Sends a text frame. On a socket that is closing there is nobody to hear it.
    pub(super) fn send(&self, text: &str) {
        drop(self.socket.send_with_str(text));
    }

    /// Closes it; its handlers are gone when this returns.
    pub(super) fn close(&self, code: u16, reason: &str) {
        drop(self.socket.close_with_code_and_reason(code, reason));
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.socket.set_onopen(None);
        self.socket.set_onmessage(None);
        self.socket.set_onclose(None);
        if self.socket.ready_state() < WebSocket::CLOSING {
            drop(self.socket.close());
        }
    }
}

/// The value behind a rejected promise or a thrown exception, as text for the console.
pub(super) fn warn(what: &str, value: &JsValue) {
    let console = js_sys::Reflect::get(&js_sys::global(), &JsValue::from_str("console"));
    let warn = console
        .as_ref()
        .ok()
        .and_then(|console| js_sys::Reflect::get(console, &JsValue::from_str("warn")).ok());
    if let Some(warn) = warn.and_then(|warn| warn.dyn_into::<js_sys::Function>().ok()) {
        drop(warn.call2(&JsValue::UNDEFINED, &JsValue::from_str(what), value));
    }
}
