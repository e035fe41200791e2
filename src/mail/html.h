#ifndef MAIL_HTML_H
#define MAIL_HTML_H

/* Inside the room: the words of an HTML text, for previews and searches. */

#include "base/base.h"

/* Append the text of `html` (UTF-8) without tags, comments, styles, scripts and
 * quoted replies (blockquote); block tags become spaces, character references
 * characters.  Tolerant of anything. */
bool priv_html_to_text(struct buf *b, slice html);

#endif
