//! Option objects, checked with errors that name the option, its value and what is allowed.

use super::support::Support;
use crate::session::{AcquireOptions, DEFAULT_WAIT, Millis};
use js_sys::{Function, JsString, Object, Reflect};
use lockrelay_protocol::limits::MAX_METADATA_BYTES;
use lockrelay_protocol::{ErrorCode, MAX_SAFE_INTEGER, Mode, MutexName};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::AbortSignal;

const NAMES: [&str; 8] = [
    "acquisitionTimeoutMillis",
    "maxHoldTimeMillis",
    "mode",
    "ifAvailable",
    "steal",
    "signal",
    "metadata",
    "onQueued",
];

/// What a call asks for, and what may withdraw it.
pub(super) struct Call {
    pub(super) options: AcquireOptions,
    pub(super) signal: Option<AbortSignal>,
    pub(super) on_queued: Option<Function>,
}

/// Reads the arguments of `acquireLock`.
///
/// # Errors
/// A `LockError` with code `INVALID_ARGUMENT`.
pub(super) fn read(support: &Support, mutex: &JsValue, options: &JsValue) -> Result<Call, JsValue> {
    let reader = Reader { support, options };
    let mutex = reader.mutex(mutex)?;
    let mut call = Call {
        options: AcquireOptions::new(mutex),
        signal: None,
        on_queued: None,
    };
    if options.is_undefined() || options.is_null() {
        return Ok(call);
    }
    if options.as_f64().is_some() {
        call.options.wait_millis = reader.millis("acquisitionTimeoutMillis", options, 0)?;
        return Ok(call);
    }
    if !options.is_object() || options.is_function() {
        return Err(reader.invalid("options", options, "an object, or a number of milliseconds to wait"));
    }
    reader.only_known_names()?;
    if let Some(value) = reader.get(NAMES[0]) {
        call.options.wait_millis = reader.millis(NAMES[0], &value, 0)?;
    } else {
        call.options.wait_millis = Some(DEFAULT_WAIT);
    }
    if let Some(value) = reader.get(NAMES[1]) {
        call.options.max_hold_millis = reader.millis(NAMES[1], &value, 1)?;
    }
    if let Some(value) = reader.get(NAMES[2]) {
        call.options.mode = value
            .as_string()
            .and_then(|mode| Mode::from_text(&mode))
            .ok_or_else(|| reader.invalid(NAMES[2], &value, "\"exclusive\" or \"shared\""))?;
    }
    call.options.if_available = reader.flag(NAMES[3])?;
    call.options.steal = reader.flag(NAMES[4])?;
    if let Some(value) = reader.get(NAMES[5]) {
        let signal = value
            .dyn_into()
            .map_err(|value| reader.invalid(NAMES[5], &value, "an AbortSignal"))?;
        call.signal = Some(signal);
    }
    if let Some(value) = reader.get(NAMES[6]) {
        let text = reader.text(&value).filter(|text| text.len() <= MAX_METADATA_BYTES);
        let allowed = "a string of at most 1024 bytes of UTF-8";
        call.options.metadata = Some(text.ok_or_else(|| reader.invalid(NAMES[6], &value, allowed))?);
    }
    if let Some(value) = reader.get(NAMES[7]) {
        let callback = value
            .dyn_into()
            .map_err(|value| reader.invalid(NAMES[7], &value, "a function"))?;
        call.on_queued = Some(callback);
    }
    if call.options.steal && (call.options.if_available || call.options.mode == Mode::Shared) {
        let allowed = "false together with ifAvailable or with mode \"shared\"";
        return Err(reader.invalid(NAMES[4], &JsValue::TRUE, allowed));
    }
    Ok(call)
}

struct Reader<'a> {
    support: &'a Support,
    options: &'a JsValue,
}

impl Reader<'_> {
    /// An option that is there and not `undefined`.
    fn get(&self, name: &str) -> Option<JsValue> {
        Reflect::get(self.options, &JsValue::from_str(name))
            .ok()
            .filter(|value| !value.is_undefined())
    }

    fn invalid(&self, name: &str, value: &JsValue, allowed: &str) -> JsValue {
        let mut message = String::from(name);
        message.push_str(" is ");
        message.push_str(&self.support.describe(value));
        message.push_str("; it must be ");
        message.push_str(allowed);
        self.support.lock_error(ErrorCode::InvalidArgument, &message)
    }

    /// A string that is well-formed UTF-16: a lone surrogate would become another name on its way.
    fn text(&self, value: &JsValue) -> Option<String> {
        value
            .dyn_ref::<JsString>()
            .filter(|text| text.is_valid_utf16())
            .map(String::from)
    }

    fn mutex(&self, value: &JsValue) -> Result<MutexName, JsValue> {
        let allowed = "a string of 1 to 512 bytes of UTF-8, without control characters and lone surrogates";
        let text = self.text(value).ok_or_else(|| self.invalid("mutex", value, allowed))?;
        MutexName::new(&text).map_err(|_| self.invalid("mutex", value, allowed))
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "in range"
    )]
    fn millis(&self, name: &str, value: &JsValue, least: Millis) -> Result<Option<Millis>, JsValue> {
        match value.as_f64() {
            Some(f64::INFINITY) => Ok(None),
            Some(number) if number >= least as f64 && number <= MAX_SAFE_INTEGER as f64 && number.fract() == 0.0 => {
                Ok(Some(number as Millis))
            }
            _ if least == 0 => Err(self.invalid(
                name,
                value,
                "a whole number of milliseconds from 0 to 2^53 - 1, or Infinity",
            )),
            _ => Err(self.invalid(
                name,
                value,
                "a whole number of milliseconds from 1 to 2^53 - 1, or Infinity",
            )),
        }
    }

    fn flag(&self, name: &str) -> Result<bool, JsValue> {
        match self.get(name) {
            None => Ok(false),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| self.invalid(name, &value, "true or false")),
        }
    }

    fn only_known_names(&self) -> Result<(), JsValue> {
        let object: &Object = self.options.unchecked_ref();
        for name in Object::keys(object).iter().filter_map(|name| name.as_string()) {
            if !NAMES.contains(&name.as_str()) {
                let mut message = String::from("there is no option \"");
                message.push_str(&name);
                message.push_str("\"; the options are ");
                message.push_str(&NAMES.join(", "));
                return Err(self.support.lock_error(ErrorCode::InvalidArgument, &message));
            }
        }
        Ok(())
    }
}
