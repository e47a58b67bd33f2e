// Package location reads where a repository is: an absolute path, or a URL of one of the drivers.
//
// A location says where and how, never who: no credential can stand in it, so that it may be shown in plans, logs and
// errors and be written beside a restored server. It is pure: nothing is asked of a network, a file or the environment.
package location
