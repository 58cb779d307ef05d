package drive

import "context"

// background marks contexts.
type background struct{}

// Background is a context for calls that serve no one who waits: upkeep. Drives
// that are limited prefer other calls to them.
func Background(ctx context.Context) context.Context {
	return context.WithValue(ctx, background{}, true)
}

// IsBackground reports whether ctx came from Background.
func IsBackground(ctx context.Context) bool { return ctx.Value(background{}) != nil }

// uncachedKey marks a context.
type uncachedKey struct{}

// Uncached marks the reads made with ctx as those that must see the place itself
// and no cache in front of it: to verify what lies there (D5, scrub).
func Uncached(ctx context.Context) context.Context {
	return context.WithValue(ctx, uncachedKey{}, true)
}

// IsUncached reports whether ctx was marked by Uncached.
func IsUncached(ctx context.Context) bool {
	is, _ := ctx.Value(uncachedKey{}).(bool)
	return is
}
