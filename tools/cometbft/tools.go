//go:build tools

// Package tools names the program that this module locks, so that `go mod tidy` keeps what it needs.
package tools

import _ "github.com/cometbft/cometbft/cmd/cometbft"
