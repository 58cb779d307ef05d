package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"
)

// waitReady reads a server's output until its ready line, and then goes on
// reading so that the server never blocks on it.
func waitReady(out io.Reader) error {
	ready := make(chan error, 1)
	go func() {
		sc := bufio.NewScanner(out)
		for sc.Scan() {
			if strings.HasPrefix(sc.Text(), "ready") {
				ready <- nil
				io.Copy(io.Discard, out)
				return
			}
		}
		ready <- fmt.Errorf("the server ended before it was ready (see server.log)")
	}()
	select {
	case err := <-ready:
		return err
	case <-time.After(2 * time.Minute):
		return fmt.Errorf("the server was not ready after two minutes")
	}
}
