// What only JavaScript can do: subclass Error, use well-known symbols. Lent to the WebAssembly core as `support`.

/** An error of Lockrelay, with a stable `code`. */
export class LockError extends Error {
  constructor(code, message, retryAfterMillis) {
    super(message);
    this.name = "LockError";
    this.code = code;
    if (retryAfterMillis !== undefined) this.retryAfterMillis = retryAfterMillis;
  }
}

/** Emits a lock's release reason once, then completes. Late subscribers get it too. */
class ReleaseObservable {
  #onRelease;

  constructor(onRelease) {
    this.#onRelease = onRelease;
    // The two names under which libraries look for it: the proposal's symbol where somebody defined it, and RxJS' text.
    if (typeof Symbol.observable === "symbol") this[Symbol.observable] = () => this;
  }

  subscribe(observerOrNext, error, complete) {
    const observer = typeof observerOrNext === "function" ? { next: observerOrNext, error, complete } : (observerOrNext ?? {});
    let closed = false;
    const unsubscribe = this.#onRelease((reason) => {
      if (closed) return;
      closed = true;
      observer.next?.(reason);
      observer.complete?.();
    });
    return {
      get closed() {
        return closed;
      },
      unsubscribe() {
        closed = true;
        unsubscribe();
      },
    };
  }

  ["@@observable"]() {
    return this;
  }

  /** For the platform's own `Observable.from()`. */
  async *[Symbol.asyncIterator]() {
    yield await new Promise((resolve) => this.subscribe(resolve));
  }
}

export const support = {
  error: (code, message, retryAfterMillis) => new LockError(code, message, retryAfterMillis),

  observable: (onRelease) => new ReleaseObservable(onRelease),

  describe(value) {
    const text = typeof value === "string" ? JSON.stringify(value) : typeof value === "symbol" || typeof value === "function" ? `a ${typeof value}` : textOf(value);
    return text.length > 80 ? `${text.slice(0, 77)}...` : text;
  },

  report(thrown) {
    if (typeof reportError === "function") reportError(thrown);
    else console.error(thrown);
  },
};

function textOf(value) {
  if (Object.is(value, -0)) return "-0";
  try {
    return typeof value === "object" && value !== null ? `an object (${Object.prototype.toString.call(value).slice(8, -1)})` : String(value);
  } catch {
    return "an object";
  }
}
