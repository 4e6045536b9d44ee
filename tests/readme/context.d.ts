// What the README's examples assume to be there. `checks.mjs` puts it there when they run.

/** The client of the first example. */
declare const client: import("lockrelay").LockClient;

/** A lock of the page, for the examples that begin with one. */
declare const lock: import("lockrelay").DistributedLock;

/** The shop's own functions. */
declare function readStock(): Promise<number>;
declare function writeStock(stock: number, fencingToken: number): Promise<void>;
declare function save(row: string, fencingToken: number): Promise<void>;
declare function show(text: string): void;
declare function fetchToken(): Promise<string>;

/** What the shop has to save. */
declare const rows: string[];
