package kms

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// The cases get-vanilla and post-vanilla of AWS's published test suite.
func TestSign(t *testing.T) {
	c := awsCredentials{ID: "AKIDEXAMPLE", Secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
	at := time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)
	for method, want := range map[string]string{
		"GET":  "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
		"POST": "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
	} {
		r, err := http.NewRequestWithContext(t.Context(), method, "https://example.amazonaws.com/", nil)
		if err != nil {
			t.Fatal(err)
		}
		sign(r, nil, c, "us-east-1", "service", at)
		got := r.Header.Get("Authorization")
		if !strings.HasSuffix(got, "Signature="+want) || !strings.Contains(got, "Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, ") {
			t.Errorf("%s: %s", method, got)
		}
	}
}
