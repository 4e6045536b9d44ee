/// <reference lib="dom" />
/// <reference lib="esnext.disposable" />

/**
 * Connects to a relay. Resolves when the WebAssembly module is ready, not when a relay is: requests wait for the connection
 * by themselves, for up to 2,000 ms.
 *
 * Nothing is loaded before the first call, so the package can be imported anywhere, Node included.
 *
 * @param urls Where the relay is: `wss://host/v1/locks`, a path of this page's host such as `/v1/locks`, or an `https:` URL.
 *   A URL without a path gets `/v1/locks`. Of several, the client uses one at a time, and the next one when it loses that.
 * @throws {LockError} `INVALID_ARGUMENT` if an argument cannot be used; the message names it. When the module cannot be loaded,
 *   the browser's own error; a later call tries again.
 */
export function connect(urls: string | URL | readonly (string | URL)[], options?: ConnectOptions): Promise<LockClient>;

/** What {@link connect} can be told. */
export interface ConnectOptions {
  /**
   * What authorises this page at the relay; nothing by default. A function is asked at each connection and reconnection, and
   * may return a promise; when it fails, the client says so on the console and tries again.
   */
  token?: string | (() => string | PromiseLike<string>);

  /**
   * Where the WebAssembly module is: a URL, its bytes, or the compiled module. By default the file `lockrelay_bg.wasm` beside
   * the package's own. Only the first `connect()` of a page loads it; later ones ignore this.
   */
  wasm?: string | URL | Request | Response | BufferSource | WebAssembly.Module | PromiseLike<Response | BufferSource | WebAssembly.Module>;
}

/** A connection to Lockrelay, with all the locks that the page holds through it. Made by {@link connect}. */
export class LockClient implements AsyncDisposable {
  private constructor();

  /**
   * Acquires a lock, in the order of the calls. Where several pages wait for one, the first to be enqueued is the first served.
   *
   * Keep the object for as long as you need the lock: one that is garbage collected is released.
   *
   * @param mutex What to lock: 1 to 512 bytes of UTF-8 without control characters.
   * @param options How; a bare number is {@link AcquireOptions.acquisitionTimeoutMillis}.
   * @returns The lock. With `ifAvailable`, `null` if it is not free.
   * @throws {LockError} `LOCK_TIMEOUT` if others held it for too long; `CLIENT_NOT_CONNECTED` if no relay could be reached for
   *   2,000 ms or the whole limit; `UNAUTHORIZED` if no rule of the relay allows it; `INVALID_ARGUMENT`; `LIMIT_EXCEEDED`;
   *   `STORE_UNAVAILABLE`; `PROTOCOL_ERROR`; `CLIENT_CLOSED`. With `signal`, whatever that was aborted with. In none of these
   *   cases is anything left held or waiting.
   */
  acquireLock(mutex: string, options?: number | (AcquireOptions & { ifAvailable?: false })): Promise<DistributedLock>;
  acquireLock(mutex: string, options: AcquireOptions): Promise<DistributedLock | null>;

  /**
   * Runs `callback` while holding a lock, and releases it when what the callback returns has settled.
   *
   * @param callback Gets the lock; with `ifAvailable`, `null` if it is not free.
   * @returns What the callback returned, once the relay has confirmed the release.
   * @throws What the callback throws. Else `LOCK_LOST` if the lock was lost while it ran: what it did may then have overlapped
   *   with another holder. Everything that {@link acquireLock} throws; the callback has then not been called.
   */
  withLock<T>(mutex: string, callback: (lock: DistributedLock) => T | PromiseLike<T>): Promise<T>;
  withLock<T>(
    mutex: string,
    options: number | undefined | (AcquireOptions & { ifAvailable?: false }),
    callback: (lock: DistributedLock) => T | PromiseLike<T>,
  ): Promise<T>;
  withLock<T>(mutex: string, options: AcquireOptions, callback: (lock: DistributedLock | null) => T | PromiseLike<T>): Promise<T>;

  /** How the connection is at present. */
  readonly state: ConnectionState;

  /**
   * Calls `callback` with the new state at each change.
   *
   * @returns A function that unsubscribes.
   * @throws {LockError} `INVALID_ARGUMENT` if `callback` is not a function.
   */
  onStateChange(callback: (state: ConnectionState) => void): () => void;

  /**
   * Releases every lock, with the reason `client_closed`, and ends the client for good: calls that wait, and all later ones,
   * reject with `CLIENT_CLOSED`. Resolves at once: the relay hears of it as soon as the network carries it there. Calling it
   * again does nothing. Never rejects.
   */
  close(): Promise<void>;

  /** {@link close}, for `await using`. There only where the platform has `Symbol.asyncDispose`. */
  [Symbol.asyncDispose](): Promise<void>;

  /** Frees the object's memory at once rather than when it is collected. Not needed; the object cannot be used after it. */
  free(): void;
}

/** How to acquire a lock. An unknown name is refused with `INVALID_ARGUMENT`. */
export interface AcquireOptions {
  /**
   * How long to wait for the lock, in whole milliseconds from the call; 2,000 by default. 0 asks once; `Infinity` waits without
   * limit, but each time without a connection still only for 2,000 ms. Then `LOCK_TIMEOUT`, or `CLIENT_NOT_CONNECTED` if there
   * was no connection.
   */
  acquisitionTimeoutMillis?: number;

  /**
   * How long the lock may be held, in whole milliseconds from its receipt, at least 1; by default, and with `Infinity`, without
   * limit. Then it ends with the reason `max_hold`.
   */
  maxHoldTimeMillis?: number;

  /** `exclusive`, the default: alone. `shared`: together with others who also asked for `shared`. */
  mode?: LockMode;

  /** Does not wait: `null` if the lock is not free. `false` by default. */
  ifAvailable?: boolean;

  /**
   * Takes the lock from its holders, who lose it with the reason `stolen`, and goes before all who wait. `false` by default, and
   * only where a rule of the relay allows it: else `UNAUTHORIZED`. Not together with `ifAvailable` or with `shared`.
   */
  steal?: boolean;

  /**
   * Withdraws the request when it aborts: the call then rejects with the signal's own reason, and nothing is left behind. It has
   * no effect on a lock that was granted.
   */
  signal?: AbortSignal;

  /** Text for those who operate the relay, at most 1,024 bytes of UTF-8. None by default. */
  metadata?: string;

  /**
   * Called when the request has to wait, with the number of requests that were ahead of it in the queue at that moment, over all
   * relays; not called when the lock is granted at once. Called again after a reconnect, which goes to the end of the queue.
   */
  onQueued?: (ahead: number) => void;
}

/**
 * A lock that was granted to this page. It ends by {@link release}, or is *lost*: see {@link ReleaseReason}. Once over, it is
 * over; a new one has to be acquired.
 */
export class DistributedLock implements AsyncDisposable {
  private constructor();

  /** What is locked. */
  readonly resourceId: string;

  /** Names this grant; never used again. */
  readonly lockId: string;

  /**
   * A whole number below 2^53 that rises with every grant of the mutex. Send it with each write to what the lock protects, and
   * let that refuse a lower one than it has seen: so a page that does not yet know that it lost the lock does no harm.
   */
  readonly fencingToken: number;

  /** Whether others may hold it too. */
  readonly mode: LockMode;

  /**
   * Whether the lock is over. Read from the clock: true from the instant at which its lease ends, even in a page that was
   * frozen, before any callback could run.
   */
  isReleased(): boolean;

  /**
   * Gives the lock back. It is over, and observers have been told, before this returns.
   *
   * @returns A promise that resolves when the relay has confirmed it, or the connection has ended. It never rejects, and need not
   *   be awaited. Calling it again, or after a loss, does nothing.
   */
  release(): Promise<void>;

  /** Resolves with the reason when the lock ends. Never rejects. */
  readonly released: Promise<ReleaseReason>;

  /**
   * Calls `callback` with the reason when the lock ends: once, and before this returns if it has ended already. What it throws is
   * reported as an uncaught error and disturbs nobody else.
   *
   * @returns A function that unsubscribes.
   * @throws {LockError} `INVALID_ARGUMENT` if `callback` is not a function.
   */
  onRelease(callback: (reason: ReleaseReason) => void): () => void;

  /** {@link onRelease} as an Observable: emits the reason once, then completes; late subscribers get it too. */
  observeRelease(): ReleaseObservable;

  /**
   * Aborts when the lock is lost, with a {@link LockError} `LOCK_LOST`; not when the page itself releases it or closes the
   * client. Pass it to `fetch()`, so that no request goes on without its lock.
   */
  readonly signal: AbortSignal;

  /** {@link release}, for `await using`. There only where the platform has `Symbol.asyncDispose`. */
  [Symbol.asyncDispose](): Promise<void>;

  /** Frees the object's memory at once, and so releases the lock. Not needed; the object cannot be used after it. */
  free(): void;
}

/**
 * An Observable of one value. RxJS' `from()`, the platform's own `Observable.from()`, and whoever knows `Symbol.observable` or
 * `"@@observable"`, take it.
 */
export interface ReleaseObservable extends AsyncIterable<ReleaseReason> {
  /** Calls `next` with the reason, then `complete`; at once if the lock has ended. There is no error. */
  subscribe(next: (reason: ReleaseReason) => void, error?: ((error: unknown) => void) | null, complete?: (() => void) | null): ReleaseSubscription;
  subscribe(observer?: ReleaseObserver): ReleaseSubscription;

  /** Itself. */
  ["@@observable"](): ReleaseObservable;
}

/** What is told of the end of a lock. */
export interface ReleaseObserver {
  /** Gets the reason. */
  next?: (reason: ReleaseReason) => void;
  /** Never called. */
  error?: (error: unknown) => void;
  /** Called after `next`. */
  complete?: () => void;
}

/** A subscription to the end of a lock. */
export interface ReleaseSubscription {
  /** Whether nothing will come any more. */
  readonly closed: boolean;
  /** Ends it: nothing is called any more. */
  unsubscribe(): void;
}

/** An error of Lockrelay: tell them apart by {@link code}. */
export class LockError extends Error {
  constructor(code: LockErrorCode, message: string, retryAfterMillis?: number);

  readonly name: "LockError";

  /** What went wrong. Stable across versions, unlike the message. */
  readonly code: LockErrorCode;

  /** After how many milliseconds to try again, where the relay said so. */
  readonly retryAfterMillis?: number;
}

/** What went wrong with a call. */
export type LockErrorCode =
  /** The lock was not granted within `acquisitionTimeoutMillis`. Try again, or wait longer. */
  | "LOCK_TIMEOUT"
  /** No relay could be reached. */
  | "CLIENT_NOT_CONNECTED"
  /** No rule of the relay allows this, or the relay refused the token. */
  | "UNAUTHORIZED"
  /** An argument is of the wrong type or outside its range; the message names it, its value and what is allowed. */
  | "INVALID_ARGUMENT"
  /** A limit of the relay was reached. Wait for `retryAfterMillis`, where it is given. */
  | "LIMIT_EXCEEDED"
  /** The lock was lost while the callback of `withLock` ran. Also the reason of `lock.signal`. */
  | "LOCK_LOST"
  /** The client was closed. */
  | "CLIENT_CLOSED"
  /** The relay cannot reach its store. Nothing was granted. */
  | "STORE_UNAVAILABLE"
  /** The versions of client and relay do not fit together. */
  | "PROTOCOL_ERROR";

/** Why a lock ended. All but `released` and `client_closed` mean that it was lost. */
export type ReleaseReason =
  /** The page released it. */
  | "released"
  /** Its connection ended: the network, the relay's crash, or the page went into the back/forward cache. */
  | "connection_lost"
  /** Its lease ended before the relay prolonged it: the page or the machine stood still, or the relay was out of reach. */
  | "lease_expired"
  /** It was held for `maxHoldTimeMillis`. */
  | "max_hold"
  /** Another client took it with `steal`. */
  | "stolen"
  /** An operator took it back, or the token that it was acquired with ended. */
  | "revoked"
  /** The relay can no longer vouch for it: it lost its session in the store, or the store lost data. */
  | "store_lost"
  /** The relay was shut down. */
  | "relay_shutdown"
  /** The page closed the client. */
  | "client_closed";

/** Who else may hold a lock. */
export type LockMode = "exclusive" | "shared";

/** How a client's connection is. */
export type ConnectionState =
  /** The first connection is on its way. */
  | "connecting"
  /** A relay has answered. */
  | "connected"
  /** The connection was lost, and its locks with it; another is on its way. */
  | "reconnecting"
  /** For good: the page closed the client, or trying again is useless. */
  | "closed";
