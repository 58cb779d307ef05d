package daemon

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pair makes a certificate of a serial number and its key, in PEM.
func pair(t *testing.T, serial int64) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
	c, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// A certificate is read anew when both files are another pair; what is none is said
// once, and changes nothing.
func TestCertificateIsReadAnew(t *testing.T) {
	dir := t.TempDir()
	at := [2]string{filepath.Join(dir, "cert"), filepath.Join(dir, "key")}
	stamp := time.Now()
	put := func(i int, b []byte) {
		t.Helper()
		if err := os.WriteFile(at[i], b, 0o600); err != nil {
			t.Fatal(err)
		}
		stamp = stamp.Add(time.Second)
		if err := os.Chtimes(at[i], stamp, stamp); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	c := &stepped{now: time.Unix(1_700_000_000, 0)}
	logger := slog.New(slog.NewTextHandler(&log, nil))
	if _, err := newCertificate(at[0], at[1], c, logger); err == nil {
		t.Fatal("files that are not there are taken")
	}
	cert, key := pair(t, 1)
	put(0, cert)
	put(1, key)
	held, err := newCertificate(at[0], at[1], c, logger)
	if err != nil {
		t.Fatal(err)
	}
	serial := func(after time.Duration) int64 {
		t.Helper()
		c.step(after)
		got, err := held.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(got.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.SerialNumber.Int64()
	}
	cert, key = pair(t, 2)
	put(0, cert) // its key is not there yet
	for range 3 {
		if n := serial(2 * time.Second); n != 1 {
			t.Errorf("half a pair is taken: %d", n)
		}
	}
	if n := strings.Count(log.String(), "the one before stays"); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, log.String())
	}
	put(1, key)
	if n := serial(time.Millisecond); n != 1 {
		t.Errorf("files are looked at for each connection: %d", n)
	}
	if n := serial(2 * time.Second); n != 2 {
		t.Errorf("serial %d, want 2", n)
	}
	if err := os.Remove(at[0]); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if n := serial(2 * time.Second); n != 2 {
			t.Errorf("serial %d, want 2", n)
		}
	}
	if n := strings.Count(log.String(), "the one before stays"); n != 2 {
		t.Errorf("it is said %d times, want once more:\n%s", n, log.String())
	}
}
