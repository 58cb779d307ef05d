package url_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/provider"
	objecturl "github.com/strakefs/strake/internal/object/url"
	"github.com/strakefs/strake/test/servers"
)

func TestRefused(t *testing.T) {
	const secret = "hunter2hunter2"
	for raw, names := range map[string]string{
		"": "scheme", "ftp://x/y": "ftp", "s3:///x": "BUCKET", "s3:bucket": "BUCKET", "file://host/x": "DIRECTORY", "file://": "absolute",
		"s3://b?endpont=http://x":                           "endpont",
		"s3://b?access-key=" + secret:                       "access-key",
		"s3://key:" + secret + "@b":                         "credentials",
		"s3://b?endpoint=http://key:" + secret + "@host":    "endpoint",
		"s3://b?endpoint=host":                              "endpoint",
		"s3://b?path-style=yes":                             "path-style",
		"s3://b?signed-payload=1":                           "signed-payload",
		"s3://b?region=":                                    "region",
		"s3://b?region=a&region=b":                          "region",
		"s3://b?part-size=1":                                "part-size",
		"s3://b?parallel=0":                                 "parallel",
		"s3://b/a//b":                                       "prefix",
		"s3://b/a b":                                        "prefix",
		"s3://b#x":                                          "BUCKET",
		"gs://b?region=x":                                   "region",
		"az://c?path-style=true":                            "path-style",
		"az://c?account=a&endpoint=http://" + secret + "@h": "endpoint",
		"file:///x?class=y":                                 "class",
		"s3://b/%zz":                                        "malformed",
	} {
		s, err := objecturl.All().Open(t.Context(), raw, objecturl.Secrets{AccessKey: "a", SecretKey: "b", AccountKey: "YQ=="}, provider.Options{})
		if s != nil || !errors.Is(err, fsapi.Invalid) || !strings.Contains(err.Error(), names) {
			t.Errorf("%q: %v, which does not name %q", raw, err, names)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%q: the error tells the secret: %v", raw, err)
		}
	}
}

// TestInfo opens what Info says again, and finds no secret in it.
func TestInfo(t *testing.T) {
	t.Setenv("STORAGE_EMULATOR_HOST", "127.0.0.1:1")
	secrets := objecturl.Secrets{AccessKey: "AKIDKEY", SecretKey: "s3cr3tkey", AccountKey: "c2VjcmV0a2V5"}
	for raw, want := range map[string]object.Info{
		"s3://b/p/q?region=eu-1&endpoint=http://127.0.0.1:1&path-style=true&signed-payload=true&class=STANDARD_IA": {Kind: "s3", Class: "STANDARD_IA"},
		"gs://b/p?class=NEARLINE":       {Kind: "gcs", Class: "NEARLINE"},
		"az://c/p?account=a&class=Cool": {Kind: "azure", Class: "Cool"},
		"file://" + t.TempDir():         {Kind: "dir"},
	} {
		s, err := objecturl.All().Open(t.Context(), raw, secrets, provider.Options{})
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		info := s.Info()
		if info.Kind != want.Kind || info.Class != want.Class {
			t.Errorf("%s: %+v", raw, info)
		}
		for _, secret := range []string{secrets.AccessKey, secrets.SecretKey, secrets.AccountKey} {
			if strings.Contains(info.URL, secret) {
				t.Errorf("%s tells a secret", info.URL)
			}
		}
		if a, b := parts(t, raw), parts(t, info.URL); a != b {
			t.Errorf("opened %s, it says %s", a, b)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// parts is a URL with its parameters in order.
func parts(t *testing.T, raw string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u.Scheme + "://" + u.Host + u.Path + "?" + u.Query().Encode()
}

// TestRealServers opens each provider by its URL, with credentials given and
// with those of the environment.
func TestRealServers(t *testing.T) {
	s3, gcs, azure := servers.S3(t), servers.GCS(t), servers.Azure(t)
	s3.Bucket(t, "bucket")
	gcs.Bucket(t, "bucket")
	azure.Container(t, "bucket")
	urls := []string{
		"s3://bucket/p?region=us-east-1&path-style=true&part-size=5242880&parallel=2&endpoint=" + s3.Endpoint,
		"gs://bucket/p",
		"az://bucket/p?account=" + azure.Account + "&endpoint=" + azure.Endpoint,
		"file://" + t.TempDir(),
	}
	secrets := objecturl.Secrets{AccessKey: s3.AccessKey, SecretKey: s3.SecretKey, AccountKey: azure.Key}
	t.Setenv("STORAGE_EMULATOR_HOST", gcs.Endpoint)
	for _, raw := range urls {
		use(t, raw, secrets)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", s3.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s3.SecretKey)
	t.Setenv("AZURE_STORAGE_KEY", azure.Key)
	for _, raw := range urls {
		use(t, raw, objecturl.Secrets{})
	}
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	s, err := objecturl.All().Open(t.Context(), urls[0], objecturl.Secrets{}, provider.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Get(t.Context(), "x", 0, make([]byte, 1)); !errors.Is(err, fsapi.Unauthorized) {
		t.Errorf("a wrong key: %v", err)
	}
}

func use(t *testing.T, raw string, secrets objecturl.Secrets) {
	t.Helper()
	s, err := objecturl.All().Open(t.Context(), raw, secrets, provider.Options{})
	if err != nil {
		t.Errorf("%s: %v", raw, err)
		return
	}
	defer s.Close()
	if _, err := object.PutBytes(t.Context(), s, "x", []byte("body"), object.Condition{}); err != nil {
		t.Errorf("%s: %v", raw, err)
		return
	}
	if got, _, err := object.ReadAll(t.Context(), s, "x", 0, 10); err != nil || string(got) != "body" {
		t.Errorf("%s: %q, %v", raw, got, err)
	}
}
