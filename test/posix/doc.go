// Package posix is what programs rely on of a mounted file system, as a table
// of tests that run on a directory: on a door's mount, and on the host's own
// file system to show that the tests are right.
//
// It owns: the table and the helpers that act as other processes and users. It
// must not know what is mounted, nor import anything of Strake.
//
// A test binary that runs the table calls Main from its TestMain: tests that
// need other processes run the same binary again.
package posix
