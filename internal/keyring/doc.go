// Package keyring keeps the secret keys of a store: the store key, and of each
// volume an id key and versioned data keys. All are random; a password unlocks
// them through Argon2id (RFC 9106). FORMAT.md describes the file for a second
// implementer.
//
// It owns: the keyring file, its wrapping, change of password, key versions,
// where passwords come from. It must not know what is sealed under the keys,
// nor what a volume is beyond its number and cipher.
//
// Concurrency: readers take an immutable state without a lock; changes are
// serialized by Keyring.change, which is held while the file is replaced. No
// goroutines.
package keyring
