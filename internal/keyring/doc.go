// Package keyring keeps the secret keys of a store: the store key, and of each
// volume an id key and versioned data keys. All are random; any of several
// key-encryption keys opens them: a password through Argon2id (RFC 9106), a key
// file, a key that an external service holds (Wrapper). FORMAT.md describes the
// file for a second implementer.
//
// It owns: the keyring file, its wrapping, change of password, key versions,
// where passwords come from. It must not know what is sealed under the keys,
// nor what a volume is beyond its number and cipher, nor how a service is asked
// (keyring/kms).
//
// Concurrency: readers take an immutable state without a lock; changes are
// serialized by Keyring.change, which is held while the file is replaced and
// while a service is asked to wrap. No goroutines.
package keyring
