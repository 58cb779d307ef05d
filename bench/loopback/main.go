// Command loopback is the file system that bench measures against: the example
// of that name in go-fuse, with its options, but without passthrough, which
// takes the server out of reading and writing. It is made of go-fuse's own
// loopback nodes, at the version that this module requires. With -no-fsync it
// answers fsync at once, without doing it: what FUSE alone allows.
//
// It owns: nothing. It must not know Strake.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

func main() {
	args := os.Args[1:]
	unsynced := len(args) > 0 && args[0] == "-no-fsync"
	if unsynced {
		args = args[1:]
	}
	if len(args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: loopback [-no-fsync] MOUNTPOINT ORIGINAL")
		os.Exit(2)
	}
	if err := serve(args[0], args[1], unsynced); err != nil {
		fmt.Fprintln(os.Stderr, "loopback:", err)
		os.Exit(1)
	}
}

// unsyncedNode is a loopback node of which nothing is made durable.
type unsyncedNode struct{ *fs.LoopbackNode }

var (
	_ fs.NodeFsyncer     = unsyncedNode{}
	_ fs.NodeWrapChilder = unsyncedNode{}
)

// WrapChild implements fs.NodeWrapChilder: children are unsynced, too.
func (unsyncedNode) WrapChild(_ context.Context, ops fs.InodeEmbedder) fs.InodeEmbedder {
	return unsyncedNode{ops.(*fs.LoopbackNode)}
}

// Fsync implements fs.NodeFsyncer.
func (unsyncedNode) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno { return fs.OK }

func serve(mnt, orig string, unsynced bool) error {
	root, err := fs.NewLoopbackRoot(orig)
	if err != nil {
		return err
	}
	if unsynced {
		root = unsyncedNode{root.(*fs.LoopbackNode)}
	}
	timeout := time.Second // as libfuse's default
	srv, err := fs.Mount(mnt, root, &fs.Options{
		AttrTimeout: &timeout, EntryTimeout: &timeout,
		NullPermissions: true,
		MountOptions: fuse.MountOptions{
			AllowOther: true, Options: []string{"default_permissions"}, DirectMount: true,
			FsName: orig, Name: "loopback",
			DisabledCapabilities: fuse.CAP_PASSTHROUGH,
		},
	})
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-stop
		if err := srv.Unmount(); err != nil {
			fmt.Fprintln(os.Stderr, "loopback:", err)
		}
	}()
	srv.Wait()
	return nil
}
