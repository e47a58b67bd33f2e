package location

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// The schemes of a location.
const (
	File  = "file" // an absolute path; no URL is written with it
	S3    = "s3"
	GCS   = "gs"
	Azure = "azblob"
	SFTP  = "sftp"
)

// Location is where a repository is.
type Location struct {
	Text   string // as it was written
	Scheme string
	Path   string // of File and SFTP: an absolute directory
	Bucket string // of S3, GCS, and the container of Azure
	Prefix string // below the bucket; empty or without a slash at either end
	User   string // of SFTP; empty: the user that runs pgkeep
	Host   string // of SFTP
	Port   int    // of SFTP
	Options
}

// Options are what stands after the question mark of a URL. The zero value is the provider's own service and defaults.
type Options struct {
	Endpoint     string        // of S3, GCS and Azure: URL of another service than the provider's
	Region       string        // of S3; empty: AWS_REGION, or the bucket's own, asked for
	Credentials  string        // of S3 and GCS: file of credentials; empty: the provider's usual places
	Profile      string        // of S3: section of the AWS credentials file
	PathStyle    bool          // of S3: the bucket stands in the path and not in the host name
	Account      string        // of Azure: the storage account; empty: AZURE_STORAGE_ACCOUNT
	CAFile       string        // PEM file of certificate authorities that are trusted beside the system's
	IdentityFile string        // of SFTP: private key; empty: the agent's and the usual ones of ~/.ssh
	KnownHosts   string        // of SFTP: file of host keys; empty: ~/.ssh/known_hosts
	Timeout      time.Duration // how long a connection may be silent while an answer is awaited; zero: 30 s
	MaxRate      int64         // bytes a second in each direction, over all connections of one pgkeep; zero: no limit
}

// Error says what is wrong with a location.
type Error struct {
	Text  string   // one sentence
	Hint  string   // what to write instead; empty: see Known
	Word  string   // a word that is none of Known; empty: the mistake is another
	Known []string // what could stand for Word
}

// Error gives the sentence.
func (e *Error) Error() string { return e.Text }

// Schemes lists what a URL may begin with.
func Schemes() []string { return []string{S3, GCS, Azure, SFTP} }

// IsURL tells a URL from a path.
func IsURL(s string) bool { return strings.Contains(s, "://") }

// Parse reads a path or a URL. The error is an *Error.
func Parse(s string) (Location, error) {
	if !IsURL(s) {
		if !path.IsAbs(s) {
			return Location{}, &Error{Text: fmt.Sprintf("%q is neither an absolute path nor a URL.", s), Hint: "Write a path from / on, or a URL such as s3://bucket/prefix."}
		}
		return Location{Text: s, Scheme: File, Path: path.Clean(s)}, nil
	}
	return ParseURL(s)
}

// ParseURL reads a URL. The error is an *Error; it repeats nothing that could be a password.
func ParseURL(s string) (Location, error) {
	u, err := url.Parse(s)
	if err != nil || len(s) > 1024 {
		return Location{}, &Error{Text: "This is no URL of at most 1024 bytes.", Hint: "Write it as in s3://bucket/prefix?region=eu-west-1."} // url's error repeats the URL
	}
	if err := noSecret(u); err != nil {
		return Location{}, err
	}
	l := Location{Text: s, Scheme: u.Scheme}
	if !slices.Contains(Schemes(), u.Scheme) {
		return Location{}, &Error{
			Text: fmt.Sprintf("No driver is called %q; there are %s.", u.Scheme, strings.Join(Schemes(), ", ")), Word: u.Scheme, Known: Schemes(),
		}
	}
	if u.Scheme == SFTP {
		err = l.host(u)
	} else {
		err = l.bucket(u)
	}
	if err != nil {
		return Location{}, err
	}
	if u.Fragment != "" {
		return Location{}, &Error{Text: "A repository's URL has no part after #.", Hint: "Write %23 where a # belongs to a name."}
	}
	if err := l.options(u); err != nil {
		return Location{}, err
	}
	return l, nil
}

// secretOptions are what people put into URLs elsewhere.
var secretOptions = []string{
	"access_key", "access_key_id", "secret", "secret_key", "secret_access_key", "session_token", "token", "password", "account_key",
	"key", "sas", "sas_token", "sig", "connection_string", "private_key", "passphrase", "credentials",
}

func noSecret(u *url.URL) error {
	_, password := u.User.Password()
	for name := range u.Query() {
		password = password || slices.Contains(secretOptions, strings.ToLower(strings.ReplaceAll(name, "-", "_")))
	}
	if !password {
		return nil
	}
	return &Error{
		Text: "A repository's URL holds no credentials: it is shown in plans and written beside restored servers.",
		Hint: "Give them as the provider's own programs take them: see Credentials in docs/repositories.md.",
	}
}

// bucket reads what stands before the question mark of an object store's URL.
func (l *Location) bucket(u *url.URL) error {
	what := map[string]string{S3: "bucket", GCS: "bucket", Azure: "container"}[l.Scheme]
	if u.Host == "" || u.User != nil || strings.Contains(u.Host, ":") {
		return &Error{Text: fmt.Sprintf("The name of the %s stands after ://, and nothing else.", what), Hint: fmt.Sprintf("Write %s://%s/prefix; another service's address goes into ?endpoint=https://host.", l.Scheme, strings.ToUpper(what))}
	}
	l.Bucket, l.Prefix = u.Host, strings.Trim(u.Path, "/")
	if l.Prefix == "" {
		return nil
	}
	if err := store.CheckKey(l.Prefix); err != nil || len(l.Prefix) > 200 {
		return &Error{
			Text: fmt.Sprintf("The prefix %q cannot be used.", l.Prefix),
			Hint: "Use at most 200 of A-Z a-z 0-9 . _ - = with single slashes between, and no part that begins with a dot.",
		}
	}
	return nil
}

// host reads what stands before the question mark of an SFTP URL.
func (l *Location) host(u *url.URL) error {
	l.User, l.Host, l.Port, l.Path = u.User.Username(), u.Hostname(), 22, u.Path
	if l.Host == "" || !path.IsAbs(l.Path) || path.Clean(l.Path) != strings.TrimSuffix(l.Path, "/") || strings.ContainsFunc(l.Path+l.User, isControl) {
		return &Error{Text: "An SFTP URL names a host and an absolute, clean directory on it.", Hint: "Write sftp://user@host/srv/pgkeep, or sftp://user@host:2222/srv/pgkeep."}
	}
	l.Path = path.Clean(l.Path)
	if u.Port() == "" {
		return nil
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil || port < 1 || port > 65535 {
		return &Error{Text: fmt.Sprintf("%q is no port.", u.Port()), Hint: "Write a number from 1 to 65535."}
	}
	l.Port = port
	return nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }
