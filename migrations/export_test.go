package migrations

// For the tests that need a database: they are a package of their own, since
// pgtest uses this one.
const LockKey = lockKey

var WaitLock = waitLock
