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
