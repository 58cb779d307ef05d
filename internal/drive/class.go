package drive

import "context"

// backgroundKey marks a context.
type backgroundKey struct{}

// Background marks the calls made with ctx as those of work that nobody waits
// for: limits give way to others first.
func Background(ctx context.Context) context.Context {
	return context.WithValue(ctx, backgroundKey{}, true)
}

// IsBackground reports whether ctx was marked by Background.
func IsBackground(ctx context.Context) bool {
	is, _ := ctx.Value(backgroundKey{}).(bool)
	return is
}

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
