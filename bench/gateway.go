package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// The credentials of the object store, which only this machine reaches.
const (
	gatewayKey    = "benchkey"
	gatewaySecret = "benchsecret"
	gatewayBucket = "bench"
)

// gateway starts versitygw over a directory of the disk that is measured, at the
// other end of a link where there is to be one. It is the URL of a prefix in a
// bucket there; it ends with the turn.
func (m *machine) gateway() (url string, err error) {
	binary := m.o.gateway
	if binary == "" {
		c, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		binary = filepath.Join(c, "strake", "servers", "versitygw")
	}
	root := filepath.Join(m.dir, "objects")
	if err := os.MkdirAll(filepath.Join(root, gatewayBucket), 0o755); err != nil {
		return "", err
	}
	port, err := freePort()
	if err != nil {
		return "", err
	}
	host, run := "127.0.0.1", []string{binary}
	if m.o.link != "" {
		l, err := m.link()
		if err != nil {
			return "", err
		}
		host, run = linkThere, l.command(binary)
	}
	at := host + ":" + port
	run = append(run, "--access", gatewayKey, "--secret", gatewaySecret, "--port", at, "--quiet", "--keep-alive", "posix", root)
	cmd := exec.CommandContext(m.ctx, run[0], run[1:]...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("versitygw, which tools/needs test prepares: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	m.beside = append(m.beside, func() error {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
		return nil
	})
	return "s3://" + gatewayBucket + "/prefix?endpoint=http://" + at + "&region=us-east-1&path-style=true",
		answers("http://"+at+"/", ended, &said)
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, errors.Join(err, l.Close())
}

// answers waits until a server answers HTTP, in whatever way.
func answers(url string, ended chan error, said *bytes.Buffer) error {
	client := &http.Client{Timeout: 5 * time.Second}
	deadline := time.Now().Add(time.Minute)
	for {
		resp, err := client.Get(url)
		if err == nil {
			return resp.Body.Close()
		}
		select {
		case why := <-ended:
			ended <- why
			return fmt.Errorf("the object store ended: %w\n%s", errors.Join(why), said.Bytes())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the object store does not answer: %w", err)
		}
	}
}

// credentials are what the standard chain of S3's clients finds.
func credentials() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + gatewayKey, "AWS_SECRET_ACCESS_KEY=" + gatewaySecret, "AWS_EC2_METADATA_DISABLED=true"}
}
