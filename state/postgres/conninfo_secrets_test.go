package postgres

import (
	"strings"
	"testing"
)

func TestWithoutSecrets(t *testing.T) {
	for in, want := range map[string]string{
		"user=a password='hunter2 \\'x' host=/tmp":              "host=/tmp user=a",
		"postgresql://a:hunter2@h1:5433,h2/db?sslmode=require":  "host=h1,h2 port=5433, user=a dbname=db sslmode=require",
		"postgresql://a@h/db?password=hunter2&connect_timeout=": "host=h user=a dbname=db",
		"service=x application_name='a b'":                      "service=x application_name='a b'",
	} {
		got, _, err := WithoutSecrets(in)
		if err != nil || strings.Contains(got, "hunter2") {
			t.Errorf("%s: %q, %v", in, got, err)
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
	if _, _, err := WithoutSecrets("pasword=hunter2"); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}
