package fuse

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/vfs/model"
	"golang.org/x/sys/unix"
)

// TestServe serves a model where STRAKE_MOUNT says, until interrupted: for
// running other programs' tests against the door alone.
func TestServe(t *testing.T) {
	dir := os.Getenv("STRAKE_MOUNT")
	if dir == "" {
		t.Skip("STRAKE_MOUNT names no directory")
	}
	s, err := Mount(Options{
		FS: model.New(model.Options{}), Dir: dir, AllowOther: true, Suid: true, Dev: true,
		Trace: os.Getenv("STRAKE_TRACE") != "",
		Log:   slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGINT, unix.SIGTERM)
	select {
	case <-stop:
	case <-s.Done():
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := s.Unmount(ctx); err != nil {
		t.Error(err)
	}
}
