// Package rest is the HTTP door: files, metadata, listings, batches, the feed
// of changes and administration under /v1, with an OpenAPI document made from
// the same table as the handlers.
//
// It owns: the mapping of HTTP to vfs, bearer tokens' roles, the table of
// endpoints. It must not know how administration is carried out (the daemon
// gives it endpoints), nor meta, blob or drives.
package rest
