package location

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// option reads one parameter of a URL.
type option struct {
	schemes []string
	what    string // one sentence for documents
	read    func(o *Options, v string) error
}

// OptionNames lists the parameters that URLs of a scheme take, sorted.
func OptionNames(scheme string) []string {
	var out []string
	for name, o := range options() {
		if slices.Contains(o.schemes, scheme) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// DescribeOption gives a sentence on a parameter for documents; empty: there is none of that name.
func DescribeOption(name string) string { return options()[name].what }

func options() map[string]option {
	clouds, all := []string{S3, GCS, Azure}, Schemes()
	return map[string]option{
		"endpoint": {clouds, "URL of another service than the provider's own", func(o *Options, v string) (err error) {
			o.Endpoint, err = endpoint(v)
			return err
		}},
		"region": {[]string{S3}, "region of the bucket; without it `AWS_REGION`, or the service is asked", func(o *Options, v string) (err error) {
			o.Region, err = word(v)
			return err
		}},
		"profile": {[]string{S3}, "section of the AWS credentials file", func(o *Options, v string) (err error) {
			o.Profile, err = word(v)
			return err
		}},
		"credentials_file": {[]string{S3, GCS}, "file of credentials, as the provider's own programs write it: an AWS credentials file, a Google service account", func(o *Options, v string) (err error) {
			o.Credentials, err = absolute(v)
			return err
		}},
		"path_style": {[]string{S3}, "`true` puts the bucket into the path instead of the host name; `true` by itself with an endpoint that is an IP address", func(o *Options, v string) (err error) {
			o.PathStyle, err = strconv.ParseBool(v)
			if err != nil {
				return fmt.Errorf("it is true or false")
			}
			return nil
		}},
		"account": {[]string{Azure}, "storage account; without it `AZURE_STORAGE_ACCOUNT`", func(o *Options, v string) (err error) {
			o.Account, err = word(v)
			return err
		}},
		"ca_file": {clouds, "PEM file of certificate authorities that are trusted beside the system's", func(o *Options, v string) (err error) {
			o.CAFile, err = absolute(v)
			return err
		}},
		"identity_file": {[]string{SFTP}, "private key; without it those of the SSH agent and of `~/.ssh`", func(o *Options, v string) (err error) {
			o.IdentityFile, err = absolute(v)
			return err
		}},
		"known_hosts": {[]string{SFTP}, "file of host keys; without it `~/.ssh/known_hosts`", func(o *Options, v string) (err error) {
			o.KnownHosts, err = absolute(v)
			return err
		}},
		"timeout": {all, "how long a connection may be silent while an answer is awaited: `5s` to `10m`, `30s` without it", func(o *Options, v string) (err error) {
			o.Timeout, err = time.ParseDuration(v)
			if err != nil || o.Timeout < 5*time.Second || o.Timeout > 10*time.Minute {
				return fmt.Errorf("it is a time from 5s to 10m")
			}
			return nil
		}},
		"max_rate": {all, "bytes a second in each direction, as `50MiB/s`; without it no limit", func(o *Options, v string) (err error) {
			o.MaxRate, err = rate(v)
			return err
		}},
	}
}

func (l *Location) options(u *url.URL) error {
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return &Error{Text: "The part after ? cannot be read.", Hint: "Write it as in ?region=eu-west-1&path_style=true."}
	}
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		o, ok := options()[name]
		switch known := OptionNames(l.Scheme); {
		case !ok || !slices.Contains(o.schemes, l.Scheme):
			return &Error{
				Text: fmt.Sprintf("%s:// has no option %q; it has %s.", l.Scheme, name, strings.Join(known, ", ")), Word: name, Known: known,
			}
		case len(values[name]) > 1:
			return &Error{Text: fmt.Sprintf("%s stands there twice.", name), Hint: "Write it once."}
		}
		if err := o.read(&l.Options, values[name][0]); err != nil {
			return &Error{Text: fmt.Sprintf("%s cannot be used: %s.", shown(name, values[name][0]), err), Hint: "See the table of URL options in docs/repositories.md."}
		}
	}
	return nil
}

// shown gives an option with its value, but for a URL, in which credentials may stand.
func shown(name, v string) string {
	if strings.Contains(v, "@") || strings.Contains(v, "?") {
		return name
	}
	return fmt.Sprintf("%s=%q", name, v)
}

func endpoint(v string) (string, error) {
	u, err := url.Parse(v)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("it is a URL such as https://minio.example.com:9000")
	}
	return strings.TrimSuffix(v, "/"), nil
}

func word(v string) (string, error) {
	if v == "" || len(v) > 100 || strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("it is one word")
	}
	return v, nil
}

func absolute(v string) (string, error) {
	if !path.IsAbs(v) || strings.ContainsFunc(v, isControl) {
		return "", fmt.Errorf("it is an absolute path")
	}
	return path.Clean(v), nil
}

// rate reads bytes a second: a whole number, one of KiB/s, MiB/s, GiB/s.
func rate(v string) (int64, error) {
	for unit, factor := range map[string]int64{"KiB/s": 1 << 10, "MiB/s": 1 << 20, "GiB/s": 1 << 30} {
		number, ok := strings.CutSuffix(v, unit)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 32)
		if err == nil && n > 0 && n*factor >= 64<<10 {
			return n * factor, nil
		}
	}
	return 0, fmt.Errorf("it is a number with KiB/s, MiB/s or GiB/s, at least 64KiB/s")
}
