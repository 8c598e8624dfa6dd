"""Files and folders as documents: text, Markdown, HTML, PDF, DOCX, CSV, JSONL."""
