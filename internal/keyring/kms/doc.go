// Package kms asks external services to wrap keys: the transit engine of
// HashiCorp Vault and OpenBao, and the AWS Key Management Service and what
// speaks its protocol. Each is a keyring.Wrapper of a few requests over HTTP;
// the vendors' client libraries would add half of Strake's size again.
//
// It owns: how these services are spoken to, how they are logged in to, what
// their errors mean. It must not know what the wrapped bytes are, nor decide
// whether to ask again: keyring.Patient does.
//
// Wrappers are safe for concurrent use and start no goroutines. Credentials in
// files are read anew for each request, so that whoever renews them need not
// tell.
package kms
