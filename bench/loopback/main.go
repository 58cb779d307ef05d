// Command loopback is the file system that bench measures against: the example
// of that name in go-fuse, with its options, but without passthrough, which
// takes the server out of reading and writing. It is made of go-fuse's own
// loopback nodes, at the version that this module requires.
//
// It owns: nothing. It must not know Strake.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: loopback MOUNTPOINT ORIGINAL")
		os.Exit(2)
	}
	if err := serve(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "loopback:", err)
		os.Exit(1)
	}
}

func serve(mnt, orig string) error {
	root, err := fs.NewLoopbackRoot(orig)
	if err != nil {
		return err
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
