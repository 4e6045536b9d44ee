//! What the scripts answer, as the store's types. A reply that makes no sense is [`StoreError::Unavailable`]: nothing is known
//! of what happened.

use crate::store::{
    Answer, BatchReply, Entry, Event, EventKind, Generation, Outcome, Reaped, Renewal, SessionId, Slot, StoreError,
};
use lockrelay_protocol::{LockId, Mode, MutexName};

/// A reply: bulk strings, of which the first says what kind it is.
pub(super) type Reply = Vec<String>;

fn nonsense(what: &str) -> StoreError {
    StoreError::Unavailable(format!("the script's reply makes no sense: {what:?}"))
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|_| nonsense(text))
}

/// The part after `OK`, or why there is none.
pub(super) fn answer<T>(
    reply: &[String],
    done: impl FnOnce(&[String]) -> Result<T, StoreError>,
) -> Result<Answer<T>, StoreError> {
    match reply {
        [kind, rest @ ..] if kind == "OK" => done(rest).map(Answer::Done),
        [kind] if kind == "NOSESS" => Ok(Answer::NoSession),
        [kind, generation, recovering] if kind == "NEWGEN" => Ok(Answer::NewGeneration(Generation {
            number: number(generation)?,
            recovering: recovering == "1",
        })),
        [kind, why] if kind == "REFUSED" => Err(StoreError::Refused(why.clone())),
        other => Err(nonsense(&other.join(" "))),
    }
}

pub(super) fn batch(rest: &[String]) -> Result<BatchReply, StoreError> {
    let [answer, events @ ..] = rest else {
        return Err(nonsense("no outcomes"));
    };
    let mut lines = answer.split('\n');
    let outcomes = lines
        .next()
        .unwrap_or_default()
        .split_ascii_whitespace()
        .map(outcome)
        .collect::<Result<_, _>>()?;
    Ok(BatchReply {
        outcomes,
        events: events.iter().map(|text| event(text)).collect::<Result<_, _>>()?,
        unsettled: lines.map(mutex).collect::<Result<_, _>>()?,
    })
}

fn outcome(text: &str) -> Result<Outcome, StoreError> {
    let (kind, rest) = text.split_at_checked(1).ok_or_else(|| nonsense(text))?;
    Ok(match kind {
        "G" => Outcome::Granted { token: number(rest)? },
        "Q" => Outcome::Queued { ahead: number(rest)? },
        "U" => Outcome::Unavailable,
        "F" => Outcome::Refused,
        "R" => Outcome::Released,
        "C" => Outcome::Cancelled,
        "N" => Outcome::NotHeld,
        "S" => Outcome::Settled,
        "L" => Outcome::Lost,
        _ => return Err(nonsense(text)),
    })
}

/// `number slot kind token lock-id`, as in replies and in hints.
pub(super) fn event(text: &str) -> Result<Event, StoreError> {
    let parts: Vec<&str> = text.splitn(5, ' ').collect();
    let [count, slot, kind, token, lock_id] = parts[..] else {
        return Err(nonsense(text));
    };
    Ok(Event {
        number: number(count)?,
        slot: Slot(number(slot)?),
        lock_id: LockId::new(lock_id).map_err(|_| nonsense(text))?,
        kind: match kind {
            "g" => EventKind::Granted { token: number(token)? },
            "x" => EventKind::Stolen,
            "l" => EventKind::Lost,
            _ => return Err(nonsense(text)),
        },
    })
}

pub(super) fn mutex(text: &str) -> Result<MutexName, StoreError> {
    MutexName::new(text).map_err(|_| nonsense(text))
}

pub(super) fn renewal(rest: &[String]) -> Result<Renewal, StoreError> {
    let [entries, recovering, token, sessions, rest @ ..] = rest else {
        return Err(nonsense("no renewal"));
    };
    let counters = 2 * number::<usize>(sessions)?;
    let (counters, events) = rest
        .split_at_checked(counters)
        .ok_or_else(|| nonsense("too few counters"))?;
    let mut counters = counters
        .chunks_exact(2)
        .map(|pair| {
            Ok((
                SessionId::from_text(&pair[0]).ok_or_else(|| nonsense(&pair[0]))?,
                number(&pair[1])?,
            ))
        })
        .collect::<Result<Vec<_>, StoreError>>()?;
    counters.sort_unstable();
    Ok(Renewal {
        counters,
        events: events.iter().map(|text| event(text)).collect::<Result<_, _>>()?,
        entries: number(entries)?,
        recovering: recovering == "1",
        highest_token: number(token)?,
    })
}

pub(super) fn reaped(rest: &[String]) -> Result<crate::store::ReapReply, StoreError> {
    let [reaped, unsettled @ ..] = rest else {
        return Err(nonsense("no reap"));
    };
    Ok(crate::store::ReapReply {
        reaped: match reaped.as_str() {
            "GONE" => Reaped::Gone,
            "MORE" => Reaped::More,
            "ALIVE" => Reaped::Alive,
            other => return Err(nonsense(other)),
        },
        unsettled: unsettled.iter().map(|name| mutex(name)).collect::<Result<_, _>>()?,
    })
}

/// A page of `list.lua`.
pub(super) fn page(reply: &[String]) -> Result<(Vec<Entry>, Option<Slot>), StoreError> {
    let [next, rest @ ..] = reply else {
        return Err(nonsense("no page"));
    };
    let entries = rest
        .chunks_exact(2)
        .map(|pair| entry(&pair[0], &pair[1]))
        .collect::<Result<_, _>>()?;
    let next = if next.is_empty() {
        None
    } else {
        Some(Slot(number(next)?))
    };
    Ok((entries, next))
}

fn entry(slot: &str, text: &str) -> Result<Entry, StoreError> {
    let parts: Vec<&str> = text.splitn(8, '\n').collect();
    let [lock_id, state, mode, token, _, _, name, metadata] = parts[..] else {
        return Err(nonsense(text));
    };
    Ok(Entry {
        slot: Slot(number(slot)?),
        lock_id: LockId::new(lock_id).map_err(|_| nonsense(lock_id))?,
        mutex: mutex(name)?,
        mode: if mode == "s" { Mode::Shared } else { Mode::Exclusive },
        token: if state == "w" { None } else { Some(number(token)?) },
        metadata: metadata.strip_prefix('1').map(str::to_owned),
    })
}
