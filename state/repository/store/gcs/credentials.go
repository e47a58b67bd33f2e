package gcs

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// scope is the least that reads, writes and deletes objects.
const scope = "https://www.googleapis.com/auth/devstorage.read_write"

// tokens gives access tokens, looked for where Google's own programs look: the file of GOOGLE_APPLICATION_CREDENTIALS (a
// service account, a workload identity, an impersonation), the login of gcloud, then the identity of the machine. A file that the
// URL names is asked alone. Errors never repeat what a file or an answer says: both hold secrets.
type tokens struct {
	file string // empty: the usual places
	wire *noting

	mu     sync.Mutex
	source oauth2.TokenSource // nil: not found yet
}

// token gives one that holds a while longer.
func (t *tokens) token(ctx context.Context) (*oauth2.Token, error) {
	source, err := t.found(ctx)
	if err != nil {
		return nil, err
	}
	token, err := source.Token()
	if err != nil {
		return nil, refusal(err, t.wire.failure())
	}
	return token, nil
}

// noting remembers how the last request ended: some of oauth2's errors only quote it.
type noting struct {
	next http.RoundTripper

	mu  sync.Mutex
	err error
}

// RoundTrip is http.RoundTripper's.
func (n *noting) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := n.next.RoundTrip(r)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.err = err
	return answer, err
}

// failure gives what kept the last request from being answered; nil: nothing.
func (n *noting) failure() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

func (t *tokens) found(ctx context.Context) (oauth2.TokenSource, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.source != nil {
		return t.source, nil
	}
	ctx = context.WithValue(context.WithoutCancel(ctx), oauth2.HTTPClient, &http.Client{Transport: t.wire}) // the source outlives the call
	params := google.CredentialsParams{Scopes: []string{scope}}
	var c *google.Credentials
	var err error
	if t.file != "" {
		c, err = fromFile(ctx, t.file, params)
	} else {
		c, err = google.FindDefaultCredentialsWithParams(ctx, params)
	}
	var trouble *store.Trouble
	switch {
	case errors.As(err, &trouble):
		return nil, err
	case err != nil:
		return nil, &store.Trouble{
			Kind: store.Denied, Text: "there are no credentials for Google Cloud Storage: neither in GOOGLE_APPLICATION_CREDENTIALS, nor a login of gcloud, nor an identity of this machine",
			Hint: noCredentials,
		}
	}
	t.source = oauth2.ReuseTokenSource(nil, c.TokenSource)
	return t.source, nil
}

const noCredentials = "set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account or workload identity, or name the file in ?credentials_file=, or log in: gcloud auth application-default login"

func fromFile(ctx context.Context, name string, params google.CredentialsParams) (*google.Credentials, error) {
	unusable := func(what string) error {
		return &store.Trouble{
			Kind: store.Denied, Text: "the credentials file " + name + " " + what,
			Hint: "name a file in ?credentials_file= as gcloud iam service-accounts keys create, or create-cred-config, writes it",
		}
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, &store.Trouble{Kind: store.Denied, Text: "the credentials file of ?credentials_file= cannot be read", Hint: "let the user who runs pgkeep read " + name, Err: err}
	}
	var head struct {
		Type google.CredentialsType `json:"type"`
	}
	if json.Unmarshal(text, &head) != nil || head.Type == "" {
		return nil, unusable("is none of Google's: it names no type")
	}
	c, err := google.CredentialsFromJSONWithTypeAndParams(ctx, text, head.Type, params)
	if err != nil {
		return nil, unusable("cannot be used")
	}
	return c, nil
}

// refusal gives what went wrong when a token was asked for, without what was sent or answered. unanswered is how the last
// request failed.
func refusal(err, unanswered error) error {
	var network net.Error
	var said *oauth2.RetrieveError
	what := ""
	switch {
	case errors.As(err, &said) && said.Response != nil && (said.Response.StatusCode >= 500 || said.Response.StatusCode == http.StatusTooManyRequests):
		return &answer{status: said.Response.StatusCode, reason: "no access token"}
	case errors.As(err, &said) && isWord(said.ErrorCode):
		what = " (" + said.ErrorCode + ")"
	case unanswered != nil:
		return &url.Error{Op: "Post", URL: "the authority of the credentials", Err: unanswered}
	case errors.As(err, &network): // the machine's own authority
		return network
	}
	return &store.Trouble{
		Kind: store.Denied, Text: "the credentials give no access token for Google Cloud Storage" + what,
		Hint: "try them: gcloud auth application-default print-access-token; else: " + noCredentials,
	}
}

// isWord tells a code such as invalid_grant from other text.
func isWord(s string) bool {
	for _, c := range s {
		if c != '_' && (c < 'a' || c > 'z') {
			return false
		}
	}
	return s != "" && len(s) <= 40
}
