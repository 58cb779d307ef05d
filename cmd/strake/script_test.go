package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/strakefs/strake/internal/config"
	"github.com/strakefs/strake/internal/keyring/kms/kmstest"
	"github.com/strakefs/strake/test/servers"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"strake": main})
}

// TestScripts drives the command line as a user does. The data directory has a
// short path of its own, as a socket's path is bounded.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			dir, err := os.MkdirTemp("", "strake")
			if err != nil {
				return err
			}
			e.Defer(func() { os.RemoveAll(dir) })
			e.Setenv("STRAKE_DATA", filepath.Join(dir, "d"))
			e.Defer(func() { unmount(filepath.Join(e.WorkDir, "mnt")) })
			e.Values["t"] = t
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond == "fuse" {
				return canMount(), nil
			}
			return false, fmt.Errorf("condition %q is not known", cond)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"waitsocket":  waitSocket,
			"firstfield":  firstField,
			"kms":         startKMS,
			"bucket":      startBucket,
			"now":         now,
			"s3":          startS3,
			"waittiers":   waitTiers,
			"waitpending": waitPending,
			"waitjob":     waitJob,
			"cert":        makeCert,
			"s3down":      s3Down,
			"s3up":        s3Up,
		},
	})
}

// waitSocket waits until the server of the data directory listens.
func waitSocket(ts *testscript.TestScript, _ bool, _ []string) {
	sock := filepath.Join(ts.Getenv("STRAKE_DATA"), "run", "strake.sock")
	for range 600 {
		if _, err := os.Stat(sock); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond) // another process: there is nothing to wait on
	}
	ts.Fatalf("no server listens at %s", sock)
}

// waitTiers PATH MASK waits until a file can be read from the tiers of MASK and no
// others.
func waitTiers(ts *testscript.TestScript, _ bool, args []string) {
	for range 600 {
		ts.Check(ts.Exec("strake", "stat", "--json", args[0]))
		if strings.Contains(strings.ReplaceAll(ts.ReadFile("stdout"), " ", ""), `"tiers":`+args[1]) {
			return
		}
		time.Sleep(50 * time.Millisecond) // another process: there is nothing to wait on
	}
	ts.Fatalf("%s is not on the tiers of mask %s: %s", args[0], args[1], ts.ReadFile("stdout"))
}

// waitPending PATTERN waits until what `strake pending` says matches.
func waitPending(ts *testscript.TestScript, _ bool, args []string) {
	want := regexp.MustCompile(args[0])
	for range 600 {
		ts.Check(ts.Exec("strake", "pending"))
		if want.MatchString(ts.ReadFile("stdout")) {
			return
		}
		time.Sleep(50 * time.Millisecond) // another process: there is nothing to wait on
	}
	ts.Fatalf("pending does not match %s:\n%s", args[0], ts.ReadFile("stdout"))
}

// makeCert DIR writes a certificate that signs itself, for 127.0.0.1, to cert.pem and
// its key to key.pem in a directory, in place of those that are there.
func makeCert(ts *testscript.TestScript, _ bool, args []string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "strake"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ts.Check(err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	for name, b := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: cert}, "key.pem": {Type: "PRIVATE KEY", Bytes: der}} {
		path := filepath.Join(ts.MkAbs(args[0]), name)
		ts.Check(os.WriteFile(path+".new", pem.EncodeToMemory(b), 0o600))
		ts.Check(os.Rename(path+".new", path))
	}
}

// waitJob KIND ARG STATE waits until there is a job of a kind, with an argument, in a
// state. What is said of it then is the output.
func waitJob(ts *testscript.TestScript, _ bool, args []string) {
	for range 600 {
		ts.Check(ts.Exec("strake", "job", "list", "--all"))
		for _, line := range strings.Split(ts.ReadFile("stdout"), "\n") {
			f := strings.Fields(line)
			if len(f) > 1 && f[1] == args[0] && slices.Contains(f, args[1]) && slices.Contains(f, args[2]) {
				ts.Check(ts.Exec("strake", "job", "show", f[0]))
				return
			}
		}
		time.Sleep(50 * time.Millisecond) // another process: there is nothing to wait on
	}
	ts.Fatalf("no job %s %s is %s: %s", args[0], args[1], args[2], ts.ReadFile("stdout"))
}

// firstField VAR PATTERN sets VAR to the first field of the line of the last
// output that holds PATTERN.
func firstField(ts *testscript.TestScript, _ bool, args []string) {
	for _, line := range strings.Split(ts.ReadFile("stdout"), "\n") {
		if strings.Contains(line, args[1]) {
			ts.Setenv(args[0], strings.Fields(line)[0])
			return
		}
	}
	ts.Fatalf("no line of the output holds %q", args[1])
}

// startBucket starts an S3 server with an empty bucket and sets BUCKET to the URL
// of a prefix in it.
func startBucket(ts *testscript.TestScript, _ bool, _ []string) {
	t := ts.Value("t").(testing.TB)
	s := servers.S3(t)
	s.Bucket(t, "bkt")
	ts.Setenv("AWS_ACCESS_KEY_ID", s.AccessKey)
	ts.Setenv("AWS_SECRET_ACCESS_KEY", s.SecretKey)
	ts.Setenv("BUCKET", "s3://bkt/p?region=us-east-1&path-style=true&endpoint="+s.Endpoint)
}

// now VAR sets VAR to this moment, and returns in a later millisecond.
func now(ts *testscript.TestScript, _ bool, args []string) {
	at := time.Now()
	ts.Setenv(args[0], at.UTC().Format("2006-01-02T15:04:05.000Z"))
	for time.Now().UnixMilli() == at.UnixMilli() {
	}
}

// services are the key services of scripts, by address.
var services sync.Map

// startKMS starts a key service with the key "strake" and sets KMS_ADDR and
// KMS_TOKEN; kms down has it answer nothing useful, kms up again.
func startKMS(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) == 0 {
		s := kmstest.Start(ts.Value("t").(testing.TB), "strake")
		services.Store(s.URL, s)
		ts.Setenv("KMS_ADDR", s.URL)
		ts.Setenv("VAULT_TOKEN", kmstest.Token)
		return
	}
	s, _ := services.Load(ts.Getenv("KMS_ADDR"))
	s.(*kmstest.Service).Down(map[string]int{"down": -1, "up": 0}[args[0]])
}

// buckets are the servers that speak S3 of scripts, by working directory.
var buckets sync.Map

// s3Down kills the server of startS3, s3Up starts it again.
func s3Down(ts *testscript.TestScript, _ bool, _ []string) {
	s, _ := buckets.Load(ts.Getenv("WORK"))
	s.(*servers.S3Server).Stop()
}

func s3Up(ts *testscript.TestScript, _ bool, _ []string) {
	s, _ := buckets.Load(ts.Getenv("WORK"))
	s.(*servers.S3Server).Start(ts.Value("t").(testing.TB))
}

// unmount takes a mount down that a script which failed has left.
func unmount(dir string) {
	if _, err := os.Lstat(dir); err == nil || errors.Is(err, syscall.ENOTCONN) {
		_ = exec.Command("fusermount3", "-q", "-u", "-z", dir).Run() // mostly nothing is mounted there
	}
}

// canMount is the condition that this process may mount with FUSE.
func canMount() bool {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	return err == nil && f.Close() == nil && os.Getuid() == 0
}

// startS3 BUCKET starts a server that speaks S3, makes a bucket in it and sets
// BUCKET_URL, with the credentials for it, and BUCKET_DIR, where its objects are.
func startS3(ts *testscript.TestScript, _ bool, args []string) {
	t := ts.Value("t").(testing.TB)
	s := servers.S3(t)
	s.Bucket(t, args[0])
	buckets.Store(ts.Getenv("WORK"), s)
	ts.Setenv("BUCKET_DIR", filepath.Join(s.Dir, args[0]))
	ts.Setenv("BUCKET_URL", "s3://"+args[0]+"/all?endpoint="+s.Endpoint+"&path-style=true&region=us-east-1")
	ts.Setenv("AWS_ACCESS_KEY_ID", s.AccessKey)
	ts.Setenv("AWS_SECRET_ACCESS_KEY", s.SecretKey)
}

// The committed reference is the one that the code makes.
func TestReferenceIsCurrent(t *testing.T) {
	k, err := newParser(&cli{})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	cliReference(&b, k.Model)
	for name, want := range map[string]string{"cli.md": b.String(), "config.md": config.Reference()} {
		got, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("docs/%s is not what the code says: run make docs", name)
		}
	}
}
